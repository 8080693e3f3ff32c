-- Write a cache entry and end its lease, if the caller still holds it.
--
-- KEYS[1]  the entry
-- KEYS[2]  its lease
-- ARGV[1]  the caller's token; empty: write in any case, and end the lease of another
-- ARGV[2]  the entry
-- ARGV[3]  how long it lives, in ms
-- reply    1 written, 0 fenced out: the lease has passed to another or has expired

if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
