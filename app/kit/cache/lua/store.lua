-- needs: memory
-- Write a cache entry and end its lease, if the caller still holds it.
--
-- KEYS[1]  the entry
-- KEYS[2]  its lease
-- ARGV[1]  the caller's token; empty: write in any case, and end the lease of another
-- ARGV[2]  the entry
-- ARGV[3]  how long it lives, in ms
-- ARGV[4]  the share of the server's memory in use up to which entries are written, in percent; empty: no bound
-- reply    1 written, 0 fenced out: the lease has passed to another or has expired, -1 not written: memory is short

if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
if is_full(ARGV[4], #ARGV[2]) then
  -- What the caller means to replace must not be served any more.
  redis.call('DEL', KEYS[1], KEYS[2])
  return -1
end
-- SET first: after another write Redis would no longer refuse it for want of memory.
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
