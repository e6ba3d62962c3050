// SPDX-License-Identifier: Apache-2.0
// jit.js - what makes V8 compile, deoptimise, patch and collect, on threads too; prints checksums.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');
const zlib = require('zlib');

const mix = (sum, v) => Math.imul(sum ^ v, 0x01000193) >>> 0;

function integers(n) {
	let s = 1;
	for (let i = 0; i < n; i++)
		s = (Math.imul(s, 1664525) + 1013904223 ^ s >>> 7) | 0;
	return s;
}

function doubles(n) {
	let x = 0.5, sum = 0;
	for (let i = 0; i < n; i++) {
		x = 3.9 * x * (1 - x);
		sum += Math.floor(x * 1000) / 7;
	}
	return sum.toFixed(6);
}

// Integer, then double, then string, then object: each guess of the compiler fails in turn.
function shapes(n) {
	const add = (a, b) => a + b;
	let sum = 0;
	for (let i = 0; i < n; i++)
		sum = mix(sum, add(i, 1));
	for (let i = 0; i < n; i++)
		sum = mix(sum, Math.round(add(i, 0.5)));
	for (let i = 0; i < n / 10; i++)
		sum = mix(sum, add('' + i, 'x').length);
	for (let i = 0; i < n / 10; i++)
		sum = mix(sum, ('' + add({ toString: () => '' + i }, i % 3 ? null : [i])).length);
	return sum;
}

class Node {
	constructor(depth) {
		this.left = depth ? new Node(depth - 1) : null;
		this.right = depth ? new Node(depth - 1) : null;
	}
	count() { return 1 + (this.left ? this.left.count() + this.right.count() : 0); }
}

function garbage(n) {
	let sum = 0;
	const keep = [];
	for (let i = 0; i < n; i++) {
		sum += new Node(10).count();
		keep[i % 20] = new Node(8);
	}
	return sum + keep.reduce((s, t) => s + t.count(), 0);
}

function regexes(n) {
	let sum = 0;
	for (let i = 0; i < n; i++) {
		const text = `user${i}@host${i % 17}.example.org, +${i * 7919 % 100003}-555 "q${i}" `.repeat(3);
		for (const m of text.matchAll(/(\w+)@([\w.]+)|(?<num>\+?\d+)-(\d{3})|"([^"]*)"/g))
			sum = mix(sum, m.index + m[0].length);
	}
	return sum;
}

function bigs(n) {
	let a = 1n;
	for (let i = 1n; i < n; i++)
		a = a * (i * 2n + 1n) % (2n ** 521n - 1n);
	return a.toString(16).slice(0, 24);
}

function compiled(n) {
	let sum = 0;
	for (let i = 0; i < n; i++)
		sum = mix(sum, new Function('a', 'b', `let s = ${i}; for (let k = 0; k < 50; k++) s = (s * ${i + 3} + a ^ b + k) | 0; return s;`)(i, 7));
	return sum;
}

// Adds 1 to n by a loop in WebAssembly: (func (param i32) (result i32) (local i32) ...).
function wasm(n) {
	const code = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0,
		10, 33, 1, 31, 1, 1, 127, 3, 64, 32, 1, 65, 31, 108, 32, 0, 106, 33, 1, 32, 0, 65, 1, 107, 34, 0, 13, 0, 11, 32, 1,
		11]);
	code[28] = code.length - 29;
	code[30] = code.length - 31;
	return new WebAssembly.Instance(new WebAssembly.Module(code)).exports.f(n);
}

function everything(scale) {
	const data = Buffer.alloc(1 << 20);
	for (let i = 0; i < data.length; i++)
		data[i] = i * i >>> 5;
	return [
		['integers', integers(2e7 * scale)], ['doubles', doubles(5e6 * scale)], ['shapes', shapes(1e6 * scale)],
		['garbage', garbage(300 * scale)], ['regexes', regexes(10000 * scale)], ['bigs', bigs(BigInt(20000 * scale))],
		['compiled', compiled(1500 * scale)], ['wasm', wasm(1e7 * scale)],
		['sha512', createHash('sha512').update(data).digest('hex').slice(0, 16)],
		['deflate', createHash('sha1').update(zlib.deflateSync(data)).digest('hex').slice(0, 16)],
		['sorted', Array.from({ length: 100000 }, (_, i) => Math.imul(i, 2654435761) | 0).sort((a, b) => a - b)
			.reduce(mix, 0)],
		['json', JSON.stringify(JSON.parse(JSON.stringify(Array.from({ length: 20000 }, (_, i) => ({ i, s: `v${i}`, f: i / 3 })))))
			.length],
	];
}

// Threads that count in shared memory, with atomics, while each also computes.
function threads(n, times) {
	const shared = new SharedArrayBuffer(8);
	const all = Array.from({ length: n }, () => new Promise((done, failed) => {
		const w = new Worker(__filename, { workerData: { shared, times } });
		w.on('message', done);
		w.on('error', failed);
	}));
	return Promise.all(all).then((sums) => [Atomics.load(new Int32Array(shared), 0), ...new Set(sums)].join(' '));
}

if (isMainThread) {
	for (const [name, value] of everything(1))
		console.log(name, String(value));
	threads(4, 200000).then((v) => console.log('threads', v));
} else {
	const counter = new Int32Array(workerData.shared);
	for (let i = 0; i < workerData.times; i++)
		Atomics.add(counter, 0, 1);
	parentPort.postMessage(JSON.stringify(everything(0.1)).length + ':' + everything(0.1).map(([, v]) => v).join(','));
}
