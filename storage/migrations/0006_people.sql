-- Whom a user belongs with. Runs carry it; a viewer sees those of their tenant.
alter table users add column tenant text not null default 'default'
    check (tenant ~ '^[a-z0-9-]{1,32}$');

-- One login and everything that was refreshed from it. A session that is
-- revoked stays until it would have expired, so that its tokens are known.
create table sessions (
    id              uuid primary key default gen_random_uuid(),
    user_id         uuid not null references users (id) on delete cascade,
    client          text not null check (length(client) <= 200),
    created_at      timestamptz not null,
    refreshed_at    timestamptz not null,
    expires_at      timestamptz not null,
    revoked_at      timestamptz,
    revoked_because text check (revoked_because in
                                ('logout', 'revoked', 'reuse', 'password', 'disabled')),
    check ((revoked_at is null) = (revoked_because is null))
);
create index sessions_user on sessions (user_id, created_at);
create index sessions_expired on sessions (expires_at);

-- Every refresh token of a session, used ones too: one that comes a second
-- time was stolen, from its owner or from the thief. Only digests are kept.
create table refresh_tokens (
    digest     bytea primary key check (length(digest) = 32),
    session_id uuid not null references sessions (id) on delete cascade,
    expires_at timestamptz not null,
    used_at    timestamptz
);
create index refresh_tokens_session on refresh_tokens (session_id);

-- Keys for programs. The prefix is what people see and what one is found by;
-- of the key itself, 256 random bits, only the SHA-256 is kept.
create table api_keys (
    id           uuid primary key default gen_random_uuid(),
    user_id      uuid not null references users (id) on delete cascade,
    name         text not null check (length(name) between 1 and 64),
    prefix       text not null unique check (prefix ~ '^[a-z2-7]{12}$'),
    digest       bytea not null check (length(digest) = 32),
    scopes       text[] not null check (cardinality(scopes) > 0),
    created_at   timestamptz not null,
    expires_at   timestamptz not null check (expires_at > created_at),
    last_used_at timestamptz,
    revoked_at   timestamptz
);
create index api_keys_user on api_keys (user_id, created_at);

-- Who submitted a run that may have left the stream.
create index audit_event_run_submitted on audit_event (run) include (leaf_index)
    where type = 'swarm.run.submitted.v1' and verdict = 'accepted';
