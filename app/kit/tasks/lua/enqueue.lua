-- needs: queue
-- Accepts tasks, each at most once: one whose id is known, or whose unique key is held, changes nothing.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, how long an aborted task is kept in ms; then for each task: id, name, payload, priority,
--       delay in ms, earliest time in epoch ms, digest of the unique key or '', options or '', expiry (+ms from now,
--       epoch ms, or ''), id of the parent or '', flags (r: start again what has ended, p: the parent's result is the
--       payload)
-- Reply: for each task: its id, or that of the task that holds its unique key; status (new, known, restarted); its
--        state; how many wait before it, or -1 (it was known, or is not queued)
local keep_ms = ARGV[2]
local high, normal, low = redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3])
local head = redis.call('ZRANGE', sched, 0, 0)[1]
local woken = false
local alias = {}
local reply = {}

local function holder_of(unique)
  local id = unique ~= '' and redis.call('GET', typed(prefix .. 'u:' .. unique, 'string'))
  return id and read(id, 'state')[1] and id
end

-- An id whose record is of a wrong type is not known: it is accepted anew.
local function state_of(record)
  local state = redis.pcall('HGET', record, 'state')
  if type(state) == 'table' then
    typed(record, 'hash')
    return nil
  end
  return state
end

-- How many wait before a task that enters now; it is then counted itself.
local function position(priority)
  if priority == 'high' then
    high = high + 1
    return high - 1
  elseif priority == 'normal' then
    normal = normal + 1
    return high + normal - 1
  end
  low = low + 1
  return high + normal + low - 1
end

-- Where a child goes, and its payload: it is held by a parent that has not ended, and ends with one that was aborted.
local function beside_parent(id, parent, payload, takes_result)
  local held, record = read(parent, 'state', 'children', 'result')
  if held[1] == 'done' then
    return nil, takes_result and held[3] or payload
  elseif not held[1] or held[1] == 'aborted' then
    return 'aborted', payload
  end
  redis.call('HSET', record, 'children', held[2] and held[2] .. ' ' .. id or id)
  return 'held', payload
end

local function accept(i, children)
  local id, priority, unique, parent, flags = ARGV[i], ARGV[i + 3], ARGV[i + 6], ARGV[i + 9], ARGV[i + 10]
  local record = prefix .. 't:' .. id
  local due = math.max(now + ARGV[i + 4], tonumber(ARGV[i + 5]))
  local state = due > now and 'scheduled' or 'queued'
  local payload = ARGV[i + 2]
  local takes_result = string.find(flags, 'p', 1, true)
  if parent ~= '' then
    local other
    other, payload = beside_parent(id, alias[parent] or parent, payload, takes_result)
    state = other or state
  end
  local fields = {'name', ARGV[i + 1], 'payload', payload, 'priority', priority, 'created', now, 'state', state}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if ARGV[i + 7] ~= '' then
    set('options', ARGV[i + 7])
  end
  local expires = ARGV[i + 8]
  if expires ~= '' then
    set('expires', string.sub(expires, 1, 1) == '+' and now + string.sub(expires, 2) or expires)
  end
  if unique ~= '' then
    set('unique', unique)
  end
  if children then
    set('children', children)
  end
  if state == 'scheduled' then
    set('due', due)
  elseif state == 'held' then
    set('delay', ARGV[i + 4])
    set('at', ARGV[i + 5])
    if takes_result then
      set('takes', 1)
    end
  elseif state == 'aborted' then
    set('error', 'its parent has ended without success, or is not known')
    set('finished', now)
  end
  -- A record has no TTL while its task waits or runs: nothing accepted may expire. Its end sets one.
  redis.call('HSET', record, unpack(fields))
  if state == 'aborted' then
    redis.call('PEXPIRE', record, keep_ms)
    add('aborted')
    return state, -1
  end
  if unique ~= '' then
    -- No TTL: held until the script that ends the task deletes it.
    redis.call('SET', prefix .. 'u:' .. unique, id)
  end
  if state == 'scheduled' then
    redis.call('ZADD', sched, due, id)
  elseif state == 'queued' then
    redis.call('LPUSH', ready[priority], id)
    woken = true
    return state, position(priority)
  end
  return state, -1
end

for i = 3, #ARGV, 11 do
  local id, unique = ARGV[i], ARGV[i + 6]
  local record = prefix .. 't:' .. id
  local known = state_of(record)
  local ended = known == 'done' or known == 'failed' or known == 'aborted'
  local again = ended and string.find(ARGV[i + 10], 'r', 1, true)
  local holder = known and not again and id or holder_of(unique)
  local status, before = 'known', -1
  if holder then
    alias[id] = holder
    known = read(holder, 'state')[1]
  else
    local children = again and redis.call('HGET', record, 'children')
    if again then
      redis.call('DEL', record)
      redis.call('ZREM', dead, id)
    end
    status = again and 'restarted' or 'new'
    known, before = accept(i, children)
  end
  reply[#reply + 1] = holder or id
  reply[#reply + 1] = status
  reply[#reply + 1] = known
  reply[#reply + 1] = before
end

-- One token is enough: the worker that takes it steps, and step.lua leaves another one while tasks are ready. A task
-- that is now the next one due wakes a worker too, which then knows how long to wait.
if woken or head ~= redis.call('ZRANGE', sched, 0, 0)[1] then
  wake_one()
end
save_totals()
return reply
