-- needs: queue
-- One step of a worker: applies its reports, promotes what is due, takes back expired leases, claims.
-- Every id that is accepted and has not ended leaves this script in exactly one of ready, parked, sched, lease, or is
-- held by its parent.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: 1 the queue's prefix, 2 worker, 3 lease in ms, 4 how many to claim, 5 how many to promote, take back and pass
--       over at most, 6 deaths of workers that make a task a poison, 7 every how many claims the lowest priority goes
--       first (0: never), 8 longest idle wait in ms, 9 how long an aborted task is kept in ms, 10 the last token that
--       the worker saw, where it missed a reply, or '', 11 what to say of the worker: JSON, 'gone', or '', 12 how many
--       limits follow; for each limit: task name, most that run at once or 0, most that start in a window or 0, window
--       in ms; then for each report: id, token, kind (done, retry, dead, abort, release, progress), ms to keep the
--       result (done; -1: for ever) or to wait (retry), text, stack trace
-- Reply: 1 ms until the next task is due, or -1; 2 ids whose report was refused: another worker holds the lease, or
--        the report had been applied before; 3 ids to abort; 4 sizes of ready (high, normal, low), sched, lease, dead;
--        5 leases taken back; 6 id and name of each of their tasks that is dead now; 7 ids and names that expired;
--        8 version of the schedules; 9 keys of a wrong type that were moved aside, without the prefix; 10 claims, each:
--        id, token, name, payload, attempt, options or '', ms waited
local worker = ARGV[2]
local lease_ms, limit, batch, poison = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local fair_every, poll_ms, keep_ms, seen = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
typed(prefix .. 'wake:' .. worker, 'list')
local aborting = redis.call('SCARD', aborts) > 0
-- What a record says of a task that leaves its lease. Only while it is running its token counts.
local FIELDS = {'token', 'unique', 'children', 'limited', 'priority', 'name', 'attempts', 'state'}

local function place(id, record, priority, due)
  if due > now then
    redis.call('HSET', record, 'state', 'scheduled', 'due', due)
    redis.call('ZADD', sched, due, id)
  else
    redis.call('HSET', record, 'state', 'queued', 'due', now)
    redis.call('LPUSH', list_of(priority), id)
  end
end

-- The parent is done: its children wait for a worker, no longer for it.
local function release(children, result)
  for child in string.gmatch(children, '%S+') do
    local held, record = read(child, 'state', 'priority', 'delay', 'at', 'takes')
    if held[1] == 'held' then
      redis.call('HDEL', record, 'delay', 'at', 'takes')
      if held[5] then
        redis.call('HSET', record, 'payload', result)
      end
      place(child, record, held[2], math.max(now + number(held[3]), number(held[4])))
    end
  end
end

-- The task has ended. A dead letter has no TTL: it stays until it is requeued or purged, and so do its children.
local function finish(id, record, held, state, field, text, ms)
  if held[2] then
    redis.call('DEL', prefix .. 'u:' .. held[2])
  end
  if held[4] or state == 'done' and held[7] ~= '1' then
    redis.call('HDEL', record, 'limited', unpack(state == 'done' and {'error', 'trace'} or {}))
  end
  redis.call('HSET', record, 'state', state, 'finished', now, field, text)
  if state == 'failed' then
    redis.call('ZADD', dead, now, id)
  else
    if held[3] then
      redis.call('HDEL', record, 'children')
      if state == 'done' then
        release(held[3], text)
      else
        drop(held[3], 'its parent was aborted', keep_ms)
      end
    end
    if ms >= 0 then
      redis.call('PEXPIRE', record, ms)
    end
  end
  if aborting then
    redis.call('SREM', aborts, id)
  end
  add(state)
end

-- The task waits again: until `due`, or at the front of its list.
local function again(id, record, held, due)
  if aborting and redis.call('SISMEMBER', aborts, id) == 1 then
    finish(id, record, held, 'aborted', 'error', 'aborted', keep_ms)
    return
  end
  redis.call('HDEL', record, 'token', 'worker', 'limited')
  if due > now then
    place(id, record, held[5], due)
  else
    redis.call('HSET', record, 'state', 'queued', 'due', now)
    redis.call('RPUSH', list_of(held[5]), id)
  end
end

-- The leases that end in this step; end_leases() removes them at once.
local ending = {}

local function end_leases()
  for i = 1, #ending, 1000 do
    redis.call('ZREM', lease, unpack(ending, i, math.min(i + 999, #ending)))
  end
  ending = {}
end

-- The task no longer counts in the limit under which it was claimed.
local function leave(id, held)
  ending[#ending + 1] = id
  if held[4] then
    redis.call('SREM', typed(prefix .. 'run:' .. (held[6] or ''), 'set'), id)
  end
end

-- Back to the front, and the attempt is not spent.
local function give_back(id, record, held)
  redis.call('HSET', record, 'attempts', number(held[7]) - 1)
  again(id, record, held, now)
end

local function apply(id, record, held, kind, ms, text, trace)
  if kind == 'done' then
    finish(id, record, held, 'done', 'result', text, ms)
    return
  end
  if trace ~= '' then
    redis.call('HSET', record, 'trace', trace)
  end
  if kind == 'retry' then
    redis.call('HSET', record, 'error', text)
    add('retried')
    again(id, record, held, now + ms)
  elseif kind == 'dead' then
    finish(id, record, held, 'failed', 'error', text)
  elseif kind == 'abort' then
    finish(id, record, held, 'aborted', 'error', 'aborted', keep_ms)
  else
    give_back(id, record, held)
  end
end

-- A late or repeated report finds another token, or a task that does not run.
local refused = {}
local first_report = 13 + 4 * ARGV[12]
for i = first_report, #ARGV, 6 do
  local id, token, kind = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local held, record = read(id, unpack(FIELDS))
  if held[1] ~= token or held[8] ~= 'running' then
    refused[#refused + 1] = id
  elseif kind == 'progress' then
    redis.call('HSET', record, 'progress', ARGV[i + 4])
  else
    leave(id, held)
    apply(id, record, held, kind, tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5])
  end
end
end_leases()
if #refused > 0 then
  totals.refused = #refused
end

-- The worker missed the reply to its last step: the tasks that it claimed run nowhere.
if seen then
  for _, id in ipairs(redis.call('ZRANGE', lease, 0, -1)) do
    local held, record = read(id, unpack(FIELDS))
    if redis.call('HGET', record, 'worker') == worker and number(held[1]) > seen then
      leave(id, held)
      give_back(id, record, held)
    end
  end
  end_leases()
end

local due = redis.call('ZRANGEBYSCORE', sched, '-inf', now, 'LIMIT', 0, batch)
for _, id in ipairs(due) do
  local held, record = read(id, 'state', 'priority')
  if held[1] == 'scheduled' then
    redis.call('HSET', record, 'state', 'queued')
    redis.call('LPUSH', list_of(held[2]), id)
  end
  redis.call('ZREM', sched, id)
end

local expired = redis.call('ZRANGEBYSCORE', lease, '-inf', now, 'LIMIT', 0, batch)
local poisoned = {}
for _, id in ipairs(expired) do
  local held, record = read(id, unpack(FIELDS))
  leave(id, held)
  if held[8] == 'running' then
    local deaths = number(redis.call('HGET', record, 'deaths')) + 1
    redis.call('HSET', record, 'deaths', deaths)
    if deaths >= poison then
      poisoned[#poisoned + 1] = id
      poisoned[#poisoned + 1] = held[6] or ''
      redis.call('HSET', record, 'attempts', number(held[7]) - 1)
      finish(id, record, held, 'failed', 'error', 'the worker died while running it, ' .. deaths .. ' times')
    else
      give_back(id, record, held)
    end
    add('lost')
  end
end
end_leases()

-- Limits by task name: how many may start now, and in how many ms the next may where a rate is used up.
local limits = {}
for i = 13, first_report - 1, 4 do
  local name, most, starts, window = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local parked, begun = typed(prefix .. 'parked:' .. name, 'list'), typed(prefix .. 'rate:' .. name, 'list')
  local left = most - redis.call('SCARD', typed(prefix .. 'run:' .. name, 'set'))
  if most == 0 then
    left = limit
  end
  local next_start
  if starts > 0 then
    local oldest = redis.call('LINDEX', begun, -1)
    while oldest and number(oldest) + window <= now do
      redis.call('RPOP', begun)
      oldest = redis.call('LINDEX', begun, -1)
    end
    local starts_left = starts - redis.call('LLEN', begun)
    next_start = starts_left <= 0 and math.max(1, number(oldest) + window - now) or nil
    left = math.min(left, starts_left)
  end
  limits[name] = {left = left, window = starts > 0 and window, next_start = next_start}
  for _ = 1, math.min(left, limit, redis.call('LLEN', parked)) do
    local id = redis.call('LINDEX', parked, -1)
    local held, record = read(id, 'priority')
    redis.call('HDEL', record, 'parked')
    redis.call('RPUSH', list_of(held[1]), id)
    redis.call('RPOP', parked)
  end
end

local sizes = {redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3])}
-- Tokens only grow. After a loss of all data they start at the clock, so that none is used twice.
local kept = redis.call('HMGET', stat, 'token', 'schedules')
local token = math.floor(number(kept[1]))
if token <= 0 then
  token = now * 1000
end

-- The ready lists are read first, and what was taken is removed at the end: an error in between loses no task.
local taken, read_ahead, ahead_at = {0, 0, 0}, {{}, {}, {}}, {0, 0, 0}

local function next_of(i)
  if ahead_at[i] == 0 then
    read_ahead[i] = redis.call('LRANGE', KEYS[i], -taken[i] - limit, -taken[i] - 1)
    ahead_at[i] = #read_ahead[i]
  end
  local id = read_ahead[i][ahead_at[i]]
  ahead_at[i] = ahead_at[i] - 1
  taken[i] = taken[i] + 1
  sizes[i] = sizes[i] - 1
  return id
end

local function take()
  local first, last, by = 1, 3, 1
  if fair_every > 0 and token % fair_every == 0 then
    first, last, by = 3, 1, -1
  end
  for i = first, last, by do
    if sizes[i] > 0 then
      return next_of(i)
    end
  end
end

-- False: the limit of its task is used up, and the task is parked.
local function within_limit(id, record, name)
  local bound = limits[name]
  if not bound then
    return true
  elseif bound.left <= 0 then
    redis.call('HSET', record, 'parked', 1)
    redis.call('LPUSH', prefix .. 'parked:' .. name, id)
    redis.call('SADD', limited, name)
    return false
  end
  bound.left = bound.left - 1
  redis.call('SADD', prefix .. 'run:' .. name, id)
  redis.call('HSET', record, 'limited', 1)
  if bound.window then
    redis.call('LPUSH', prefix .. 'rate:' .. name, now)
    redis.call('PEXPIRE', prefix .. 'rate:' .. name, bound.window)
  end
  return true
end

local claims, claimed, passed, overdue, leases = {}, 0, 0, {}, {}
while claimed < limit and passed < batch do
  local id = take()
  if not id then
    break
  end
  local held, record = read(id, 'state', 'name', 'payload', 'attempts', 'options', 'expires', 'due', 'created')
  local name = held[2] or ''
  if held[1] ~= 'queued' then
    passed = passed + 1
  elseif held[6] and now >= number(held[6]) then
    overdue[#overdue + 1] = id
    overdue[#overdue + 1] = name
    finish(id, record, redis.call('HMGET', record, unpack(FIELDS)), 'aborted', 'error',
      'expired before it could start', keep_ms)
    passed = passed + 1
  elseif not within_limit(id, record, name) then
    passed = passed + 1
  else
    local attempt = number(held[4]) + 1
    local waited_ms = math.max(0, now - number(held[7] or held[8]))
    token = token + 1
    redis.call('HSET', record, 'state', 'running', 'token', token, 'worker', worker, 'attempts', attempt, 'started', now)
    leases[2 * claimed + 1], leases[2 * claimed + 2] = now + lease_ms, id
    local at = 7 * claimed
    claims[at + 1], claims[at + 2], claims[at + 3], claims[at + 4] = id, token, name, held[3] or ''
    claims[at + 5], claims[at + 6], claims[at + 7] = attempt, held[5] or '', waited_ms
    claimed = claimed + 1
  end
end
for i = 1, #leases, 1000 do
  redis.call('ZADD', lease, unpack(leases, i, math.min(i + 999, #leases)))
end
for i = 1, 3 do
  if taken[i] > 0 then
    redis.call('LTRIM', KEYS[i], 0, -taken[i] - 1)
  end
end
if claimed > 0 then
  -- No TTL: the token must outlive every lease, and the totals count since the queue began.
  redis.call('HSET', stat, 'token', token)
end
save_totals()

if ARGV[11] == 'gone' then
  redis.call('HDEL', workers, worker)
  redis.call('DEL', prefix .. 'wake:' .. worker)
elseif ARGV[11] ~= '' then
  redis.call('HSET', workers, worker, now .. ' ' .. ARGV[11])
  redis.call('PEXPIRE', workers, 60000)
  local all = redis.call('HGETALL', workers)
  for i = 1, #all, 2 do
    if number(string.match(all[i + 1], '^%d+')) < now - 60000 then
      redis.call('HDEL', workers, all[i])
    end
  end
end

local next_due = redis.call('ZRANGE', sched, 0, 0, 'WITHSCORES')[2]
local next_ms = next_due and math.max(0, next_due - now) or -1
for name, bound in pairs(limits) do
  if redis.call('EXISTS', prefix .. 'parked:' .. name) == 0 then
    redis.call('SREM', limited, name)
  elseif bound.next_start and (next_ms < 0 or bound.next_start < next_ms) then
    next_ms = bound.next_start
  end
end
if #expired == batch then
  next_ms = 0
end
-- The wake list holds a token exactly while an idle worker has a reason to step: tasks are left, or this worker is
-- too busy for what is due soon. No TTL: the next step with nothing left deletes it.
local left = sizes[1] + sizes[2] + sizes[3]
if left > 0 or (claimed == limit and next_ms >= 0 and next_ms < poll_ms) then
  wake_one()
else
  redis.call('DEL', wake)
end
sizes[4], sizes[5], sizes[6] = redis.call('ZCARD', sched), redis.call('ZCARD', lease), redis.call('ZCARD', dead)
return {next_ms, refused, aborting and redis.call('SMEMBERS', aborts) or {}, sizes, #expired, poisoned, overdue,
  number(kept[2]), moved, claims}
