-- Included by every script of the queue: its places, its clock, its totals, and the ends of tasks that never ran.
-- What another program has written is read with care: a key of a wrong type is moved aside, text that should be a number
-- counts as 0, and an id is taken from a place only where its record says that it stands there.
local prefix = ARGV[1]
local ready = {high = KEYS[1], normal = KEYS[2], low = KEYS[3]}
local sched, lease, dead, wake, aborts, stat = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local workers, limited = KEYS[10], KEYS[11]
local TYPES = {'list', 'list', 'list', 'zset', 'zset', 'zset', 'list', 'set', 'hash', 'hash', 'set'}
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local totals, moved = {}, {}

-- Whole numbers are exact below 2^53, about 9e15.
local function number(value)
  local found = tonumber(value or '')
  return found and found > -9e15 and found < 9e15 and found or 0
end

local function add(what)
  totals[what] = (totals[what] or 0) + 1
end

-- The key, once nothing of another type is there. What was there has no TTL: it stays for the operator to look at.
local function typed(key, kind)
  local found = redis.call('TYPE', key)
  found = found.ok or found
  if found ~= kind and found ~= 'none' then
    local rest = string.sub(key, #prefix + 1)
    redis.call('RENAME', key, prefix .. 'wrong:' .. rest)
    moved[#moved + 1] = rest
    add('moved')
  end
  return key
end

for i = 1, #KEYS do
  typed(KEYS[i], TYPES[i])
end

-- Fields of a task's record, and its key. A task whose record was no hash has failed.
local function read(id, ...)
  local record = prefix .. 't:' .. id
  local held = redis.pcall('HMGET', record, ...)
  if held.err then
    typed(record, 'hash')
    redis.call('HSET', record, 'name', 'unknown', 'payload', 'null', 'priority', 'normal', 'created', now,
      'state', 'failed', 'error', 'its record was of a wrong type, and is now in wrong:t:' .. id, 'finished', now)
    redis.call('ZADD', dead, now, id)
    add('failed')
    held = redis.call('HMGET', record, ...)
  end
  return held, record
end

local function list_of(priority)
  return ready[priority] or ready.normal
end

local function wake_one()
  if redis.call('LLEN', wake) == 0 then
    redis.call('LPUSH', wake, 1)
  end
end

-- Aborts the held tasks among `children` (ids with a space between), and those that they hold in turn.
local function drop(children, why, keep_ms)
  local waiting = {children}
  while #waiting > 0 do
    for child in string.gmatch(table.remove(waiting), '%S+') do
      local held, record = read(child, 'state', 'unique', 'children')
      if held[1] == 'held' then
        if held[2] then
          redis.call('DEL', prefix .. 'u:' .. held[2])
        end
        redis.call('HDEL', record, 'children')
        redis.call('HSET', record, 'state', 'aborted', 'error', why, 'finished', now)
        redis.call('PEXPIRE', record, keep_ms)
        add('aborted')
        if held[3] then
          waiting[#waiting + 1] = held[3]
        end
      end
    end
  end
end

-- No TTL: the totals count since the queue began.
local function save_totals()
  for what, amount in pairs(totals) do
    local counted = redis.pcall('HINCRBY', stat, what, amount)
    if type(counted) == 'table' then
      redis.call('HSET', stat, what, amount)
    end
  end
end
