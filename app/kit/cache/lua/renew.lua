-- Extend or release a lease that the caller still holds.
--
-- KEYS[1]  the lease
-- ARGV[1]  the caller's token
-- ARGV[2]  how long the lease lasts from now, in ms; 0 releases it
-- reply    1 done, 0 the lease has passed to another or has expired

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
