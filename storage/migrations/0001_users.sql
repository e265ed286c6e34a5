-- People who may log in. Names are compared by username_key, the name after
-- NFKC and case folding, which the program computes: no locale takes part.
create table users (
    id            uuid primary key default gen_random_uuid(),
    username      text not null check (username <> ''),
    username_key  text not null unique,
    password_hash text not null,
    role          text not null check (role in ('admin', 'user', 'viewer')),
    created_at    timestamptz not null default clock_timestamp(),
    disabled      boolean not null default false
);
