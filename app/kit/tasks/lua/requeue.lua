-- Enqueues dead letters again, with all attempts before them. One whose unique key another task holds stays dead.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix; then the ids
-- Reply: how many were requeued
local ready = {high = KEYS[1], normal = KEYS[2], low = KEYS[3]}
local dead, wake = KEYS[6], KEYS[7]
local prefix = ARGV[1]
local clock = redis.call('TIME')
local requeued = 0
for i = 2, #ARGV do
  local id = ARGV[i]
  local record = prefix .. 't:' .. id
  local held = redis.call('HMGET', record, 'priority', 'unique')
  local is_dead = redis.call('ZSCORE', dead, id)
  if is_dead and (not held[2] or redis.call('SETNX', prefix .. 'u:' .. held[2], id) == 1) then
    redis.call('ZREM', dead, id)
    redis.call('HDEL', record, 'attempts', 'deaths', 'error', 'trace', 'finished', 'progress', 'expires')
    redis.call('HSET', record, 'state', 'queued', 'due', clock[1] * 1000 + math.floor(clock[2] / 1000))
    redis.call('LPUSH', ready[held[1]], id)
    requeued = requeued + 1
  end
end
if requeued > 0 and redis.call('LLEN', wake) == 0 then
  redis.call('LPUSH', wake, 1)
end
return requeued
