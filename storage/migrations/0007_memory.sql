-- The memory: what the audit log says was written to it, as rows. Every one of these tables can
-- be made again from audit_event; memory_place says how far that has come.

-- Every version of every item. At most one version of an item is visible: the last one that is
-- not hidden, if that is not a deletion.
create table memory (
    tenant     text not null,
    namespace  text not null,
    item       text not null,
    version    bigint not null check (version > 0),
    kind       text not null check (kind in ('session', 'episodic', 'semantic')),
    content    text,                    -- null where the version is a deletion, or was erased
    metadata   jsonb not null,
    deleted    boolean not null,
    visible    boolean not null,
    hidden_by  text,                    -- the event that hides it: a quarantine or an erasure
    expires_at timestamptz,
    written_at timestamptz not null,    -- when the stream stored the event
    place      bigint not null,         -- the event's sequence in the stream
    event      text not null,
    author     text not null,           -- role/name of who signed the event
    author_key text not null,
    run        text not null,
    step       text,
    subject    text,                    -- the person whose key opens it, and who may have it erased
    reason     text not null,
    search     tsvector generated always as (to_tsvector('english', coalesce(content, ''))) stored,
    primary key (tenant, namespace, item, version)
);
create unique index memory_visible on memory (tenant, namespace, item) where visible;
create index memory_search on memory using gin (search) where visible;
create index memory_event on memory (event);
create index memory_author on memory (author, place);
create index memory_subject on memory (subject) where subject is not null;
create index memory_expires on memory (expires_at) where visible and expires_at is not null;
create index memory_recent on memory (tenant, place) where visible;

-- Which versions a version was made from.
create table memory_source (
    tenant           text not null,
    namespace        text not null,
    item             text not null,
    version          bigint not null,
    source_namespace text not null,
    source_item      text not null,
    source_version   bigint not null,
    primary key (tenant, namespace, item, version, source_namespace, source_item, source_version),
    foreign key (tenant, namespace, item, version) references memory on delete cascade
);
create index memory_source_of on memory_source
    (tenant, source_namespace, source_item, source_version);

-- Quarantines in force, for what is derived later from what they hide.
create table memory_quarantine (
    event       text primary key,
    agent       text not null,
    since       bigint not null,
    place       bigint not null,
    released_by text
);

-- Writes that did not take effect; told once the log has an event that says so.
create table memory_refusal (
    event     text primary key,
    place     bigint not null,
    code      text not null,
    run       text not null,
    namespace text not null,
    item      text not null,
    base      bigint,
    version   bigint not null,
    subject   text,
    told      boolean not null default false
);
create index memory_refusal_untold on memory_refusal (place) where not told;

-- Items whose visible version the vector index and the cache may not have yet.
create table memory_change (
    tenant    text not null,
    namespace text not null,
    item      text not null,
    change    bigint generated always as identity,
    primary key (tenant, namespace, item)
);
create index memory_change_order on memory_change (change);

create table memory_place (
    only_row        boolean primary key default true check (only_row),
    stream_sequence bigint not null
);
insert into memory_place (stream_sequence) values (0);

-- What the memory is made from, found without a look at all the rest.
create index audit_event_memory on audit_event (stream_sequence)
    where verdict = 'accepted' and type in (
        'swarm.memory.written.v1', 'swarm.memory.deleted.v1', 'swarm.memory.quarantined.v1',
        'swarm.memory.released.v1', 'swarm.run.completed.v1', 'swarm.run.failed.v1',
        'swarm.subject.forgotten.v1');

-- Whoever makes something from the audit log is told when there is more of it.
create function tell_audit_grew() returns trigger language plpgsql as $$
begin
    perform pg_notify('audit_grew', '');
    return null;
end $$;
create trigger audit_grew after update on audit_head
    for each statement execute function tell_audit_grew();
