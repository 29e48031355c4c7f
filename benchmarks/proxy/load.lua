-- For wrk: unique prompts, every answer checked, its time taken; the last line printed is JSON.
--
--   wrk … -s load.lua URL -- WAY ANSWER BYTES RUN
--
-- WAY one: a request is one completion. WAY two: the client does what a proxy would, a prefill and
-- then a decode with what the prefill answered; a request's time is that of both.
-- ANSWER whole or stream. BYTES of a prompt. RUN makes the prompts unlike those of any other run.

local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } moment;
int clock_gettime(int, moment *);
]]
local MONOTONIC, EVENTS = 1, 16
local TO_DECODE = '{"do_remote_decode":true,"do_remote_prefill":false}'
local END = "data: [DONE]\n\n"

local moment = ffi.new("moment")
local function now()  -- microseconds
  ffi.C.clock_gettime(MONOTONIC, moment)
  return tonumber(moment.seconds) * 1e6 + tonumber(moment.nanoseconds) / 1e3
end

local threads = {}
local two, streams, run, filling
local started, number = {}, 0
local handed, first, last = {}, 1, 0  -- prefills whose decode is next
took, wrong = {}, 0  -- read from the main thread

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  two, streams, run = arguments[1] == "two", arguments[2] == "stream", arguments[4]
  local size = tonumber(arguments[3])
  filling = string.rep(" the future of AI is", math.ceil(size / 20) + 1):sub(1, size)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

local function ask(word, stream, tokens, transfer)
  if two then wrk.headers["X-Request-Id"] = word end
  return wrk.format(nil, nil, nil, table.concat({
    '{"model":"qwen3","max_tokens":', tokens, ',"stream":', tostring(stream),
    transfer and ',"kv_transfer_params":' or "", transfer or "",
    ',"prompt":"', word, filling:sub(1, #filling - #word), '"}',
  }))
end

function request()
  local next = handed[first]
  if next then
    handed[first], first = nil, first + 1
    return ask(next.word, streams, EVENTS, next.transfer)
  end
  number = number + 1
  local word = run .. "-" .. number
  started[word] = now()
  if two then return ask(word, false, 1, TO_DECODE) end
  return ask(word, streams, EVENTS)
end

local function is_whole(said)
  if not streams then return true end  -- wrk has counted its Content-Length
  return said:sub(-#END) == END and select(2, said:gsub("data: {", "")) == EVENTS
end

function response(status, headers, said)
  local word = said:match('"text":"([^"]+)"')
  local begun = word and started[word]
  local transfer = two and said:match('"kv_transfer_params":(%b{})')
  if status ~= 200 or not begun then
    wrong = wrong + 1
  elseif transfer then
    last = last + 1
    handed[last] = {word = word, transfer = transfer}
  else
    started[word] = nil
    if is_whole(said) then took[#took + 1] = now() - begun else wrong = wrong + 1 end
  end
end

function done(summary)
  local all, wrongs, errors = {}, 0, summary.errors
  for _, thread in ipairs(threads) do
    for _, one in ipairs(thread:get("took")) do table.insert(all, one) end
    wrongs = wrongs + thread:get("wrong")
  end
  table.sort(all)
  local function share(part) return (all[math.max(1, math.ceil(#all * part))] or 0) / 1e6 end
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"p50":%.6f,"p99":%.6f,"errors":{"wrong":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    #all, summary.duration / 1e6, share(0.5), share(0.99), wrongs,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
