-- Included by the scripts that write: the bound on the memory that the server uses.

-- Whether `more` bytes would bring the memory in use above `share` percent of the server's; never where it is empty.
local function is_full(share, more)
  if share == '' then
    return false
  end
  local info = redis.call('INFO', 'memory')
  local most = tonumber(string.match(info, 'maxmemory:(%d+)'))
  if most == 0 then
    most = tonumber(string.match(info, 'total_system_memory:(%d+)'))
  end
  return tonumber(string.match(info, 'used_memory:(%d+)')) + more > most * share / 100
end

