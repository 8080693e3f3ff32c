-- Adds a schedule, replaces one of its name, or removes it; tells the workers by a new version.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, the schedule's name, the schedule as JSON or '' to remove it
-- Reply: 1; 0 where there was none to remove
local schedules, wake = ARGV[1] .. 'schedules', KEYS[7]
if ARGV[3] == '' then
  if redis.call('HDEL', schedules, ARGV[2]) == 0 then
    return 0
  end
else
  -- No TTL: it stays until it is removed.
  redis.call('HSET', schedules, ARGV[2], ARGV[3])
end
redis.call('HINCRBY', KEYS[9], 'schedules', 1)
if redis.call('LLEN', wake) == 0 then
  redis.call('LPUSH', wake, 1)
end
return 1
