-- Persons of whom the memory keeps nothing any more, as far as memory_place says. Their keys are
-- gone for good, so what comes later of them is not kept either, whoever can open it for a while.
create table memory_forgotten (
    person text primary key,
    event  text not null    -- the first that says so, which hides what comes later
);

-- Who was forgotten before there was this table.
insert into memory_forgotten (person, event)
select p.said ->> 'subject', e.event_id
from memory_place
join audit_event e on e.stream_sequence <= memory_place.stream_sequence
cross join lateral (
    -- Postgres reads no NUL in JSON, not even in what it is not asked for.
    select replace(convert_from(e.data, 'UTF8'), '\u0000', '\ufffd')::json as said
) p
where e.type = 'swarm.subject.forgotten.v1' and e.verdict = 'accepted'
    and p.said ->> 'subject' is not null
order by e.stream_sequence
on conflict do nothing;
