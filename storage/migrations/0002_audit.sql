-- The audit log. A row is a leaf of an RFC 6962 tree: leaf_hash is made from
-- stream_sequence, envelope, digest of data, verdict and reason_code (see
-- storage/leaf.py). envelope and data are the bytes that were received; the
-- other columns are read out of them for queries and prove nothing.
create table audit_event (
    leaf_index      bigint primary key check (leaf_index >= 0),
    stream_sequence bigint not null unique check (stream_sequence > 0),
    subject         text not null,
    event_id        text,
    type            text,
    source_role     text,
    source_agent    text,
    run             text,
    cause           text,
    sender_key      text,
    sender_sequence bigint,
    event_time      timestamptz,
    stored_at       timestamptz not null,
    headers         jsonb not null,
    envelope        bytea not null,
    data            bytea not null,
    digest          bytea,
    verdict         text not null check (verdict in ('accepted', 'refused')),
    reason_code     text not null,
    reason          text not null,
    leaf_hash       bytea not null check (length(leaf_hash) = 32)
)
-- Rows of some kilobytes are the rule: left whole on their page rather than
-- compressed and cut up as they are written, which halves the rate.
with (toast_tuple_target = 8160);
create index audit_event_run on audit_event (run, leaf_index);
create index audit_event_refused on audit_event (leaf_index) where verdict = 'refused';
create index audit_event_id on audit_event (event_id);

-- Complete subtrees: node (level, index) covers leaves index * 2^level onward.
create table audit_node (
    level  smallint not null check (level >= 0),
    index  bigint not null check (index >= 0),
    hash   bytea not null check (length(hash) = 32),
    primary key (level, index)
);

-- Every checkpoint that was signed, as the signed note itself.
create table audit_checkpoint (
    size      bigint primary key check (size > 0),
    root      bytea not null check (length(root) = 32),
    note      text not null,
    signed_at timestamptz not null default clock_timestamp()
);

-- The one row that writers lock and move on; what it says can be derived.
create table audit_head (
    only_row        boolean primary key default true check (only_row),
    size            bigint not null,
    stream_sequence bigint not null,
    root            bytea not null
);
insert into audit_head (size, stream_sequence, root)
values (0, 0, '\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');

-- The last accepted event under each sender's key: where its chain goes on
-- when the auditor starts anew. What it says can be derived from audit_event.
create table audit_chain (
    sender_key text primary key,
    sequence   bigint not null,
    digest     bytea not null
);

create function audit_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is append-only: % on % is refused', tg_op, tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

create trigger append_only before update or delete or truncate on audit_event
    for each statement execute function audit_append_only();
create trigger append_only before update or delete or truncate on audit_node
    for each statement execute function audit_append_only();
create trigger append_only before update or delete or truncate on audit_checkpoint
    for each statement execute function audit_append_only();
-- "always": also where session_replication_role would switch triggers off.
alter table audit_event enable always trigger append_only;
alter table audit_node enable always trigger append_only;
alter table audit_checkpoint enable always trigger append_only;
