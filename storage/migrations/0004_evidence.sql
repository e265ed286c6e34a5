-- A leaf now says where it stands among those of its run, how many leaves of the run of trust
-- stand before it, and when the stream stored it (storage/leaf.py). Leaves cannot be rewritten:
-- a log of an earlier version is left as it is.
do $$ begin
    if exists (select from audit_event) then
        raise exception 'the audit log was written by an earlier version, whose leaves say less:'
            ' start with a new SWARM_HOME, or an empty database';
    end if;
end $$;

alter table audit_event
    alter column run set not null,
    add column run_index   bigint not null check (run_index >= 0),
    add column trust_count bigint not null check (trust_count >= 0);

-- Where the counting of each run goes on; what it says can be derived from audit_event.
create table audit_run (
    run    text primary key,
    events bigint not null check (events > 0)
);

-- Where the keys of senders were made known.
create index audit_event_identity on audit_event (subject, leaf_index)
    where type = 'swarm.identity.issued.v1' and verdict = 'accepted';
