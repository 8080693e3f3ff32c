-- needs: queue
-- Extends leases that are still held; one that expired but was not taken back counts as held.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, lease in ms; then for each lease: id, token
-- Reply: the tokens of the leases that are lost
local expiry = now + ARGV[2]
local lost = {}
for i = 3, #ARGV, 2 do
  local id, token = ARGV[i], ARGV[i + 1]
  if read(id, 'token')[1] == token and redis.call('ZSCORE', lease, id) then
    redis.call('ZADD', lease, expiry, id)
  else
    lost[#lost + 1] = token
  end
end
save_totals()
return lost
