-- Give back the units that one check took, once.
--
-- KEYS[1]    remembers the check (see limits/lua/check.lua), and from here on that it was given back
-- KEYS[2..]  one key a limit
-- ARGV[1]    how many ms KEYS[1] lives from now on: within them a repeat gives nothing back again
-- ARGV[2]    empty: Redis' own time counts. Only tests pass a time, in µs
-- ARGV[3..]  for each limit: algorithm, window in µs, amount, units taken, stamp (LimitStatus.stamp in decision.py)
-- reply      1, or 0: it had been given back before

if redis.call('GET', KEYS[1]) == 'refunded' then
  return 0
end
redis.call('SET', KEYS[1], 'refunded', 'PX', ARGV[1])

local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local refund = {}

-- The units of one check are adjacent in the list, newest first: newer ones are removed with them and pushed again.
function refund.log(key, units, stamp)
  local newer = redis.call('LPOS', key, string.format('%.0f', stamp + units - 1))
  if not newer then
    return
  end
  local times = newer > 0 and redis.call('LRANGE', key, 0, newer - 1) or {}
  local life = redis.call('PTTL', key)
  redis.call('LTRIM', key, newer + units, -1)
  for n = #times, 1, -1 do
    redis.call('LPUSH', key, times[n])
  end
  if #times > 0 then
    redis.call('PEXPIRE', key, life)
  end
end

function refund.counter(key, units, stamp)
  local stored = redis.call('GET', key)
  if not stored then
    return
  end
  local index, previous, current = string.match(stored, '^(%d+) (%d+) (%d+)$')
  if tonumber(index) == stamp then
    current = math.max(0, current - units)
  elseif tonumber(index) == stamp + 1 then
    previous = math.max(0, previous - units)
  end
  redis.call('SET', key, string.format('%.0f %.0f %.0f', index, previous, current), 'KEEPTTL')
end

-- Units that have drained since are free already: only the part of them before the stamp is still to be given back.
function refund.gcra(key, units, stamp, window, amount)
  local drained = tonumber(redis.call('GET', key) or 0)
  local owed = math.min(units * math.ceil(window / amount), stamp - now)
  if owed > 0 and drained > now then
    redis.call('SET', key, string.format('%.0f', drained - owed), 'KEEPTTL')
  end
end

for n = 2, #KEYS do
  local at = 5 * n - 8
  local window, amount = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  refund[ARGV[at + 1]](KEYS[n], tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), window, amount)
end
return 1
