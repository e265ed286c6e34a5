-- What witnesses said of checkpoints: signature lines of a note, one for each
-- checkpoint and witness, verified before they were stored. The log's own note
-- stays as it is in audit_checkpoint; whoever hands it out joins these.
create table audit_cosignature (
    size    bigint not null check (size > 0),
    witness text not null,
    time_s  bigint not null,
    line    text not null,
    primary key (size, witness)
);
create trigger append_only before update or delete or truncate on audit_cosignature
    for each statement execute function audit_append_only();
alter table audit_cosignature enable always trigger append_only;

-- How it stands with each witness, by its verifier key: for people to look at.
-- What it says of the size can be derived; the problem is what was last found.
create table audit_witness (
    witness     text primary key,
    url         text not null,
    size        bigint not null default 0,
    cosigned_at timestamptz,
    asked_at    timestamptz not null default clock_timestamp(),
    problem     text not null default '',
    detail      text not null default ''
);
