-- Included by the scripts that end tasks: totals, and the children of a task that will never be done.
local totals = {}

local function add(what)
  totals[what] = (totals[what] or 0) + 1
end

-- Aborts the held tasks among `children` (ids with a space between), and those that they hold in turn.
local function drop(prefix, children, why, now, keep_ms)
  local waiting = {children}
  while #waiting > 0 do
    for child in string.gmatch(table.remove(waiting), '%S+') do
      local record = prefix .. 't:' .. child
      local held = redis.call('HMGET', record, 'state', 'unique', 'children')
      if held[1] == 'held' then
        if held[2] then
          redis.call('DEL', prefix .. 'u:' .. held[2])
        end
        redis.call('HDEL', record, 'children')
        redis.call('HSET', record, 'state', 'aborted', 'error', why, 'finished', now)
        redis.call('PEXPIRE', record, keep_ms)
        add('aborted')
        if held[3] then
          waiting[#waiting + 1] = held[3]
        end
      end
    end
  end
end

-- No TTL: the totals count since the queue began.
local function save_totals(stat)
  for what, amount in pairs(totals) do
    redis.call('HINCRBY', stat, what, amount)
  end
end
