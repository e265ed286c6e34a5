-- Payloads that were too large for their event, by digest. The event's leaf
-- commits to them: its ce-dataref header holds the digest.
create table audit_object (
    digest  bytea primary key check (length(digest) = 32),
    content bytea not null
);

create trigger append_only before update or delete or truncate on audit_object
    for each statement execute function audit_append_only();
alter table audit_object enable always trigger append_only;

-- What has been taken out of the stream on purpose, written before it was:
-- of this run, nothing up to this stream sequence is to be missed there.
create table audit_trim (
    run             text not null,
    stream_sequence bigint not null check (stream_sequence > 0),
    trimmed_at      timestamptz not null default clock_timestamp(),
    purged_at       timestamptz,
    primary key (run, stream_sequence)
);
create index audit_trim_unpurged on audit_trim (run) where purged_at is null;

-- Runs that have ended, oldest first: where the search for what may go begins.
create index audit_event_run_ended on audit_event (leaf_index) include (run)
    where verdict = 'accepted'
    and type in ('swarm.run.completed.v1', 'swarm.run.failed.v1', 'swarm.run.cancelled.v1');

-- Events that refer to an object: what the store of objects must hold.
create index audit_event_with_object on audit_event (leaf_index)
    where headers ? 'ce-dataref' and verdict = 'accepted';
