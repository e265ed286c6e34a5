-- What was done with accounts, written in the statement that does it, until the log has an event
-- that says so: a broker that is away neither stops people nor leaves what they do unrecorded.
create table people_event (
    place    bigint primary key generated always as identity,
    id       text not null,          -- of the event: a repeat has the same
    type     text not null,
    payload  jsonb not null,
    user_id  text not null,          -- on whose behalf; may outlive the user
    noted_at timestamptz not null default clock_timestamp()
);
