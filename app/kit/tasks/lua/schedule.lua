-- needs: queue
-- Adds a schedule, replaces one of its name, or removes it; tells the workers by a new version.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, the schedule's name, the schedule as JSON or '' to remove it
-- Reply: 1; 0 where there was none to remove
local schedules = typed(prefix .. 'schedules', 'hash')
local reply = 1
if ARGV[3] == '' then
  reply = redis.call('HDEL', schedules, ARGV[2])
else
  -- No TTL: it stays until it is removed.
  redis.call('HSET', schedules, ARGV[2], ARGV[3])
end
if reply == 1 then
  add('schedules')
  wake_one()
end
save_totals()
return reply
