-- What was used up of the models, a row for each event of the audit log that says so: a person's
-- question to the gateway, or an attempt of an agent at a step. Written with the event, in one
-- transaction; what it says can be derived from audit_event.
create table model_usage (
    leaf_index        bigint primary key,
    event_id          text not null,
    day               date not null,
    user_id           text not null,
    api_key           text not null,
    run               text not null,
    role              text not null,
    agent             text not null,
    task              text not null,
    model             text not null,
    prompt_tokens     bigint not null check (prompt_tokens >= 0),
    completion_tokens bigint not null check (completion_tokens >= 0),
    outcome           text not null
);
create index model_usage_user on model_usage (user_id, day);
create index model_usage_day on model_usage (day);
create index model_usage_run on model_usage (run) where run <> '';

-- What agents used up before there was this table.
insert into model_usage
select e.leaf_index, coalesce(e.event_id, ''),
       (e.stored_at at time zone 'UTC')::date,
       coalesce(e.headers ->> 'ce-onbehalfof', ''), '', e.run, coalesce(e.source_role, ''),
       coalesce(e.source_agent, ''), 'step', coalesce(p.said ->> 'model', ''),
       (p.said #>> '{usage,prompt_tokens}')::bigint,
       (p.said #>> '{usage,completion_tokens}')::bigint,
       case e.type when 'swarm.step.completed.v1' then 'answered' else 'failed' end
from audit_event e
left join audit_object o
    on o.digest = decode(substring(e.headers ->> 'ce-dataref' from '[0-9a-f]{64}'), 'hex')
cross join lateral (
    -- Postgres reads no NUL in JSON, not even in what it is not asked for.
    select replace(convert_from(coalesce(o.content, e.data), 'UTF8'), '\u0000', '\ufffd')::json as said
) p
where e.type in ('swarm.step.completed.v1', 'swarm.step.failed.v1') and e.verdict = 'accepted'
    and json_typeof(p.said -> 'usage') = 'object';
