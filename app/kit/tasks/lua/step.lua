-- One step of a worker: applies its reports, promotes what is due, takes back expired leases, claims.
-- Every id that is accepted and has not ended leaves this script in exactly one of ready, sched, lease.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: 1 the queue's prefix, 2 worker, 3 lease in ms, 4 how many to claim, 5 how many to promote and take back at most,
--       6 deaths of workers that make a task a poison, 7 every how many claims the lowest priority goes first (0: never),
--       8 longest idle wait in ms, 9 how long an aborted task is kept in ms,
--       10 the last token that the worker saw, where it missed a reply, or ''; then for each report: id, token, kind
--       (done, retry, dead, abort, release, progress), ms to keep the result (done) or to wait (retry), text
-- Reply: 1 ms until the next task is due, or -1; 2 ids whose report was refused: another worker holds the lease, or
--        the report had been applied before; 3 ids to abort; 4 sizes of ready (high, normal, low), sched, lease, dead; 5 leases taken
--        back; 6 how many of their tasks are dead now; 7 claims, each: id, token, name, payload, attempt, owner or ''
local ready = {high = KEYS[1], normal = KEYS[2], low = KEYS[3]}
local sched, lease, dead, wake, aborts, stat = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local prefix, worker = ARGV[1], ARGV[2]
local lease_ms, limit, batch, poison = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local fair_every, poll_ms, keep_ms, seen = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local aborting = redis.call('SCARD', aborts) > 0
local totals = {}

local function add(what)
  totals[what] = (totals[what] or 0) + 1
end

-- The task has ended. A dead letter has no TTL: it stays until it is requeued or purged.
local function finish(id, record, state, field, text, ms)
  local unique = redis.call('HGET', record, 'unique')
  if unique then
    redis.call('DEL', prefix .. 'u:' .. unique)
  end
  redis.call('HDEL', record, 'token', 'worker')
  redis.call('HSET', record, 'state', state, 'finished', now, field, text)
  if state == 'failed' then
    redis.call('ZADD', dead, now, id)
  else
    redis.call('PEXPIRE', record, ms)
  end
  if aborting then
    redis.call('SREM', aborts, id)
  end
  add(state)
end

-- The task waits again: until `due`, or at the front of its list.
local function again(id, record, due)
  if aborting and redis.call('SISMEMBER', aborts, id) == 1 then
    finish(id, record, 'aborted', 'error', 'aborted', keep_ms)
    return
  end
  redis.call('HDEL', record, 'token', 'worker')
  if due > now then
    redis.call('HSET', record, 'state', 'scheduled')
    redis.call('ZADD', sched, due, id)
  else
    redis.call('HSET', record, 'state', 'queued')
    redis.call('RPUSH', ready[redis.call('HGET', record, 'priority')], id)
  end
end

-- Back to the front, and the attempt is not spent.
local function give_back(id, record)
  redis.call('HINCRBY', record, 'attempts', -1)
  again(id, record, now)
end

local function apply(id, record, kind, ms, text)
  if kind == 'done' then
    redis.call('HDEL', record, 'payload', 'error')
    finish(id, record, 'done', 'result', text, ms)
  elseif kind == 'retry' then
    redis.call('HSET', record, 'error', text)
    add('retried')
    again(id, record, now + ms)
  elseif kind == 'dead' then
    finish(id, record, 'failed', 'error', text)
  elseif kind == 'abort' then
    finish(id, record, 'aborted', 'error', 'aborted', keep_ms)
  else
    give_back(id, record)
  end
end

-- Only a leased task has a token: a late or repeated report finds another token or none.
local refused = {}
for i = 11, #ARGV, 5 do
  local id, token, kind = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local record = prefix .. 't:' .. id
  if redis.call('HGET', record, 'token') ~= token then
    refused[#refused + 1] = id
  elseif kind == 'progress' then
    redis.call('HSET', record, 'progress', ARGV[i + 4])
  else
    redis.call('ZREM', lease, id)
    apply(id, record, kind, tonumber(ARGV[i + 3]), ARGV[i + 4])
  end
end

-- The worker missed the reply to its last step: the tasks that it claimed run nowhere.
if seen then
  for _, id in ipairs(redis.call('ZRANGE', lease, 0, -1)) do
    local record = prefix .. 't:' .. id
    local held = redis.call('HMGET', record, 'worker', 'token')
    if held[1] == worker and tonumber(held[2]) > seen then
      redis.call('ZREM', lease, id)
      give_back(id, record)
    end
  end
end

local due = redis.call('ZRANGEBYSCORE', sched, '-inf', now, 'LIMIT', 0, batch)
for _, id in ipairs(due) do
  redis.call('ZREM', sched, id)
  local record = prefix .. 't:' .. id
  local priority = redis.call('HGET', record, 'priority')
  if priority then
    redis.call('HSET', record, 'state', 'queued')
    redis.call('LPUSH', ready[priority], id)
  end
end

local expired = redis.call('ZRANGEBYSCORE', lease, '-inf', now, 'LIMIT', 0, batch)
local poisoned = 0
for _, id in ipairs(expired) do
  redis.call('ZREM', lease, id)
  local record = prefix .. 't:' .. id
  if redis.call('EXISTS', record) == 1 then
    local deaths = redis.call('HINCRBY', record, 'deaths', 1)
    if deaths >= poison then
      poisoned = poisoned + 1
      redis.call('HINCRBY', record, 'attempts', -1)
      finish(id, record, 'failed', 'error', 'the worker died while running it, ' .. deaths .. ' times')
    else
      give_back(id, record)
    end
    add('lost')
  end
end

local sizes = {redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3])}
-- Tokens only grow. After a loss of all data they start at the clock, so that none is used twice.
local token = tonumber(redis.call('HGET', stat, 'token') or now * 1000)

local function pop()
  local first, last, by = 1, 3, 1
  if fair_every > 0 and token % fair_every == 0 then
    first, last, by = 3, 1, -1
  end
  for i = first, last, by do
    if sizes[i] > 0 then
      sizes[i] = sizes[i] - 1
      return redis.call('RPOP', KEYS[i])
    end
  end
end

local claims, claimed = {}, 0
while claimed < limit do
  local id = pop()
  if not id then
    break
  end
  local record = prefix .. 't:' .. id
  local held = redis.call('HMGET', record, 'name', 'payload', 'attempts', 'owner')
  if held[1] then
    claimed = claimed + 1
    token = token + 1
    local attempt = (held[3] or 0) + 1
    redis.call('HSET', record, 'state', 'running', 'token', token, 'worker', worker, 'attempts', attempt, 'started', now)
    redis.call('ZADD', lease, now + lease_ms, id)
    for _, value in ipairs({id, token, held[1], held[2], attempt, held[4] or ''}) do
      claims[#claims + 1] = value
    end
  end
end
if claimed > 0 then
  -- No TTL: the token must outlive every lease, and the totals count since the queue began.
  redis.call('HSET', stat, 'token', token)
end
for what, amount in pairs(totals) do
  redis.call('HINCRBY', stat, what, amount)
end

local next_due = redis.call('ZRANGE', sched, 0, 0, 'WITHSCORES')[2]
local next_ms = next_due and math.max(0, next_due - now) or -1
if #expired == batch then
  next_ms = 0
end
-- The wake list holds a token exactly while an idle worker has a reason to step: tasks are left, or this worker is
-- too busy for what is due soon. No TTL: the next step with nothing left deletes it.
local left = sizes[1] + sizes[2] + sizes[3]
if left > 0 or (claimed == limit and next_ms >= 0 and next_ms < poll_ms) then
  if redis.call('LLEN', wake) == 0 then
    redis.call('LPUSH', wake, 1)
  end
else
  redis.call('DEL', wake)
end
sizes[4], sizes[5], sizes[6] = redis.call('ZCARD', sched), redis.call('ZCARD', lease), redis.call('ZCARD', dead)
return {next_ms, refused, aborting and redis.call('SMEMBERS', aborts) or {}, sizes, #expired, poisoned, claims}
