-- Accepts tasks, each at most once: one whose id is known, or whose unique key is held, changes nothing.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix; then for each task: id, name, payload, priority, delay in ms, earliest time in epoch ms,
--       digest of the unique key or '', owner or ''
-- Reply: for each task: its id, or that of the task that holds its unique key; how many wait before it, or -1
--        (scheduled, or known before)
local ready = {high = KEYS[1], normal = KEYS[2], low = KEYS[3]}
local sched, wake = KEYS[4], KEYS[7]
local prefix = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local high, normal, low = redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3])
local head = redis.call('ZRANGE', sched, 0, 0)[1]
local woken = false
local reply = {}

local function holder_of(unique)
  local id = unique ~= '' and redis.call('GET', prefix .. 'u:' .. unique)
  return id and redis.call('EXISTS', prefix .. 't:' .. id) == 1 and id
end

-- How many wait before a task that enters now; it is then counted itself.
local function position(priority)
  if priority == 'high' then
    high = high + 1
    return high - 1
  elseif priority == 'normal' then
    normal = normal + 1
    return high + normal - 1
  end
  low = low + 1
  return high + normal + low - 1
end

for i = 2, #ARGV, 8 do
  local id, priority, unique, owner = ARGV[i], ARGV[i + 3], ARGV[i + 6], ARGV[i + 7]
  local record = prefix .. 't:' .. id
  local holder = redis.call('EXISTS', record) == 1 and id or holder_of(unique)
  local before = -1
  if not holder then
    local due = math.max(now + ARGV[i + 4], tonumber(ARGV[i + 5]))
    -- A record has no TTL while its task waits or runs: nothing accepted may expire. Its end sets one.
    redis.call('HSET', record, 'name', ARGV[i + 1], 'payload', ARGV[i + 2], 'priority', priority, 'created', now,
      'state', due > now and 'scheduled' or 'queued')
    if owner ~= '' then
      redis.call('HSET', record, 'owner', owner)
    end
    if unique ~= '' then
      -- No TTL: held until the script that ends the task deletes it.
      redis.call('SET', prefix .. 'u:' .. unique, id)
      redis.call('HSET', record, 'unique', unique)
    end
    if due > now then
      redis.call('ZADD', sched, due, id)
    else
      before = position(priority)
      redis.call('LPUSH', ready[priority], id)
      woken = true
    end
  end
  reply[#reply + 1] = holder or id
  reply[#reply + 1] = before
end

-- One token is enough: the worker that takes it steps, and step.lua leaves another one while tasks are ready. A task
-- that is now the next one due wakes a worker too, which then knows how long to wait.
if (woken or head ~= redis.call('ZRANGE', sched, 0, 0)[1]) and redis.call('LLEN', wake) == 0 then
  redis.call('LPUSH', wake, 1)
end
return reply
