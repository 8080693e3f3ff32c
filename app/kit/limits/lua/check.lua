-- Check all limits of one request: all admit it and each takes its units, or nothing changes.
--
-- KEYS[1]    remembers an admitted check, so that repeating it after a lost reply takes nothing
-- KEYS[2..]  one key a limit
-- ARGV[1]    how many ms KEYS[1] lives; 0: this check takes nothing, and is not remembered
-- ARGV[2]    empty: Redis' own time counts. Only tests pass a time, in µs
-- ARGV[3..]  for each limit: algorithm, window in µs, amount, burst, units needed, units taken, shadow (0 or 1)
-- reply      {admitted (0 or 1), time in µs, then for each limit:
--             admits (0 or 1), units left, µs until there is room (for what was refused, or for one unit more),
--             stamp (identifies the units taken: LimitStatus.stamp in decision.py; 0: nothing was taken)}

local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- Keys outlive what they hold by a second, so that no entry is forgotten early by rounding.
local function milliseconds(us)
  return string.format('%.0f', math.ceil(us / 1000) + 1000)
end

-- For each algorithm: read a key's state. `room` is the units free now, wait(units) the µs until that many are free
-- (called only when they are not), take(units) takes them and returns their stamp.
local read = {}

-- A list of the times of each unit taken, newest first, all different.
function read.log(key, window, amount)
  local oldest = redis.call('LINDEX', key, -1)
  while oldest and tonumber(oldest) <= now - window do
    redis.call('RPOP', key)
    oldest = redis.call('LINDEX', key, -1)
  end
  local state = {room = amount - redis.call('LLEN', key)}
  function state.wait(units)
    return tonumber(redis.call('LINDEX', key, state.room - units)) + window - now
  end
  function state.take(units)
    local newest = redis.call('LINDEX', key, 0)
    local first = math.max(now, newest and tonumber(newest) + 1 or 0)
    for time = first, first + units - 1 do
      redis.call('LPUSH', key, string.format('%.0f', time))
    end
    redis.call('PEXPIRE', key, milliseconds(window))
    state.room = state.room - units
    return first
  end
  return state
end

-- "index previous current": the units of the fixed window `index` and of the one before it, which weighs as much
-- as it overlaps with the window that ends now.
function read.counter(key, window, amount)
  local index, previous, current = math.floor(now / window), 0, 0
  local stored = redis.call('GET', key)
  if stored then
    local at, before, counted = string.match(stored, '^(%d+) (%d+) (%d+)$')
    at = tonumber(at)
    if at >= index then
      index, previous, current = at, tonumber(before), tonumber(counted)
    elseif at == index - 1 then
      previous = tonumber(counted)
    end
  end
  -- More than 1 where the clock has stepped back: then that much longer is to be waited.
  local ahead = ((index + 1) * window - now) / window
  local overlap = math.min(1, ahead)
  -- A millionth of a unit offsets rounding, so that the stated wait is always enough.
  local state = {room = math.floor(amount - previous * overlap - current + 0.000001)}
  function state.wait(units)
    local bearable = amount - current - units
    if bearable >= 0 then
      return (ahead - bearable / previous) * window
    end
    return (ahead + math.max(0, 1 - (amount - units) / current)) * window
  end
  function state.take(units)
    current = current + units
    redis.call('SET', key, string.format('%.0f %.0f %.0f', index, previous, current), 'PX', milliseconds(2 * window))
    state.room = state.room - units
    return index
  end
  return state
end

-- The time at which everything taken will have drained (GCRA's theoretical arrival time).
function read.gcra(key, window, amount, burst)
  local interval = math.ceil(window / amount)
  local capacity = burst * interval
  local drained = math.max(now, tonumber(redis.call('GET', key) or 0))
  if drained > now + capacity then
    -- The clock stepped back, or the limit was lowered: full is full, from now on.
    drained = now + capacity
    redis.call('SET', key, string.format('%.0f', drained), 'PX', milliseconds(capacity))
  end
  local state = {room = math.floor((capacity - (drained - now)) / interval)}
  function state.wait(units)
    return drained - now + units * interval - capacity
  end
  function state.take(units)
    drained = drained + units * interval
    redis.call('SET', key, string.format('%.0f', drained), 'PX', milliseconds(drained - now))
    state.room = state.room - units
    return drained
  end
  return state
end

local remembered_ms = tonumber(ARGV[1])
local earlier = remembered_ms > 0 and redis.call('GET', KEYS[1])
-- A check that was given back may be made anew.
if earlier == 'refunded' then earlier = false end
local admitted = 1
local limits = {}
for n = 2, #KEYS do
  local at = 7 * n - 12
  local limit = read[ARGV[at + 1]](KEYS[n], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]))
  limit.burst, limit.needs, limit.takes = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  limit.admits = math.max(0, limit.room) >= limit.needs
  limit.stamp = 0
  if not limit.admits and ARGV[at + 7] == '0' then
    admitted = 0
  end
  limits[n - 1] = limit
end

if earlier then
  admitted = 1
  local n = 0
  for stamp in string.gmatch(earlier, '%d+') do
    n = n + 1
    limits[n].stamp = tonumber(stamp)
    limits[n].admits = limits[n].takes == 0 or limits[n].stamp > 0
  end
elseif admitted == 1 and remembered_ms > 0 then
  local stamps = {}
  for n, limit in ipairs(limits) do
    if limit.admits and limit.takes > 0 then
      limit.stamp = limit.take(limit.takes)
    end
    stamps[n] = string.format('%.0f', limit.stamp)
  end
  redis.call('SET', KEYS[1], table.concat(stamps, ' '), 'PX', remembered_ms)
end

local reply = {admitted, now}
for _, limit in ipairs(limits) do
  local left = math.max(0, limit.room)
  local wait = 0
  if not limit.admits and limit.room < limit.needs then
    wait = limit.wait(limit.needs)
  elseif left < limit.burst then
    wait = limit.wait(left + 1)
  end
  reply[#reply + 1] = limit.admits and 1 or 0
  reply[#reply + 1] = left
  reply[#reply + 1] = math.ceil(wait)
  reply[#reply + 1] = limit.stamp
end
return reply
