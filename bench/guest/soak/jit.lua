-- SPDX-License-Identifier: Apache-2.0
-- jit.lua - what makes LuaJIT record, compile, leave and patch traces; prints checksums.
local ffi, bit = require("ffi"), require("bit")

local function mix(sum, v)
	return bit.tobit(bit.bxor(sum, v) * 31 + 7)
end

local function integers(n)
	local s = 1
	for i = 1, n do
		s = bit.bxor(bit.tobit(s * 5 + i), bit.rshift(s, 3))
	end
	return s
end

local function doubles(n)
	local x, sum = 0.5, 0
	for _ = 1, n do
		x = 3.9 * x * (1 - x)
		sum = sum + math.floor(x * 1000) / 7
	end
	return string.format("%.6f", sum)
end

local function sieve(n)
	local composite, count = ffi.new("uint8_t[?]", n + 1), 0
	for i = 2, n do
		if composite[i] == 0 then
			count = count + 1
			for j = i * 2, n, i do composite[j] = 1 end
		end
	end
	return count
end

local function strings(n)
	local count, sum = {}, 0
	for i = 1, n do
		local w = ("k%d"):format(i * 7919 % 1013)
		count[w] = (count[w] or 0) + 1
	end
	for k, v in pairs(count) do sum = bit.bxor(sum, mix(#k, v)) end
	return sum
end

-- A branch that flips with a period the recorder cannot foresee: side traces, exits, new roots.
local function branches(n)
	local s, seed = 0, 42
	for i = 1, n do
		seed = (seed * 16807) % 2147483647
		if seed % 3 == 0 then s = mix(s, i) elseif seed % 5 == 0 then s = s + 0.5 - 0.5 else s = bit.bnot(s) end
	end
	return s
end

local function closures(n)
	local list, sum = {}, 0
	for i = 1, n do list[i] = function(x) return bit.band(x * i, 0xffff) end end
	for round = 1, 20 do
		for i = 1, n do sum = mix(sum, list[i](round)) end
	end
	return sum
end

local function coroutines(n)
	local co = coroutine.wrap(function()
		local v = 0
		while true do v = mix(v, coroutine.yield(v)) end
	end)
	co()
	local last
	for i = 1, n do last = co(i) end
	return last
end

local function wide(n)
	local s = 1ULL
	for i = 1, n do s = s * 6364136223846793005ULL + i end
	return tostring(s)
end

local function compiled(n)
	local sum = 0
	for i = 1, n do
		sum = mix(sum, loadstring(("local s = 0 for k = 1, 200 do s = (s * %d + k) %% 65521 end return s"):format(i + 2))())
	end
	return sum
end

local all = {
	{ "integers", integers, 5e7 }, { "doubles", doubles, 2e7 }, { "sieve", sieve, 5e6 }, { "strings", strings, 1e6 },
	{ "branches", branches, 2e7 }, { "closures", closures, 20000 }, { "coroutines", coroutines, 1e6 }, { "wide", wide, 5e7 },
	{ "compiled", compiled, 5000 },
}
for _, t in ipairs(all) do
	print(t[1], tostring(t[2](t[3])))
	jit.flush()
end
