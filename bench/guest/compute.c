/* SPDX-License-Identifier: Apache-2.0 */
/* compute - the kernels that stay in user mode. */
#include <math.h>
#include <string.h>

#include "kernels.h"

static uint64_t mix(uint64_t sum, uint64_t v)
{
	return (sum ^ v) * 0x100000001b3u;
}

/* Numbers that any machine repeats: xorshift64*. */
static uint64_t next(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1du;
}

/* --- sha ------------------------------------------------------------------------------------ */

static const uint32_t sha_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t ror(uint32_t v, unsigned n) { return v >> n | v << (32 - n); }

static void sha_block(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[64], s[8];

	for (unsigned i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
	for (unsigned i = 16; i < 64; i++) {
		uint32_t s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;

		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	memcpy(s, h, sizeof(s));
	for (unsigned i = 0; i < 64; i++) {
		uint32_t t1 = s[7] + (ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
			      sha_k[i] + w[i];
		uint32_t t2 = (ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22)) +
			      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(*s));
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (unsigned i = 0; i < 8; i++)
		h[i] += s[i];
}

uint64_t kernel_sha(void)
{
	enum { LEN = 1 << 20, TIMES = 24 };
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	uint8_t *data = kernel_alloc(LEN);

	for (uint32_t i = 0; i < LEN; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 24);
	for (unsigned t = 0; t < TIMES; t++)
		for (uint32_t i = 0; i < LEN; i += 64)
			sha_block(h, data + i);
	return (uint64_t)h[0] << 32 | h[1];
}

/* --- sort ----------------------------------------------------------------------------------- */

/* Hoare's partition, the middle as pivot; the smaller side by recursion bounds the stack. */
static void sort(int32_t *v, size_t n)
{
	while (n > 12) {
		int32_t pivot = v[n / 2];
		size_t i = 0, j = n - 1;

		for (;; i++, j--) {
			while (v[i] < pivot)
				i++;
			while (v[j] > pivot)
				j--;
			if (i >= j)
				break;
			int32_t t = v[i];

			v[i] = v[j];
			v[j] = t;
		}
		if (i < n - i) {
			sort(v, i);
			v += i;
			n -= i;
		} else {
			sort(v + i, n - i);
			n = i;
		}
	}
	for (size_t i = 1; i < n; i++) {
		int32_t t = v[i];
		size_t j = i;

		for (; j > 0 && v[j - 1] > t; j--)
			v[j] = v[j - 1];
		v[j] = t;
	}
}

uint64_t kernel_sort(void)
{
	enum { N = 1500000, TIMES = 3 };
	int32_t *v = kernel_alloc(N * sizeof(*v));
	uint64_t seed = 42, sum = 0;

	for (unsigned t = 0; t < TIMES; t++) {
		for (size_t i = 0; i < N; i++)
			v[i] = (int32_t)(next(&seed) >> 32);
		sort(v, N);
		for (size_t i = 0; i < N; i += 1000)
			sum = mix(sum, (uint32_t)v[i]);
	}
	return sum;
}

/* --- floating point ------------------------------------------------------------------------- */

/* libm picks its code by what CPUID reports, and the last bit may differ between a version with
 * fused multiply-add and one without: the checksum is of sums rounded to ten digits. */
uint64_t kernel_fp(void)
{
	enum { N = 4000000 };
	double acc[7] = { 0 };
	uint64_t sum = 0;

	for (unsigned i = 1; i <= N; i++) {
		double x = i * (20.0 / N);

		acc[0] += exp(x * 0.1);
		acc[1] += log(x + 1);
		acc[2] += sin(x) + 2;
		acc[3] += cos(x) + 2;
		acc[4] += pow(x, 1.37);
		acc[5] += atan2(x, 3.1);
		acc[6] += sqrt(x);
	}
	for (unsigned i = 0; i < 7; i++)
		sum = mix(sum, (uint64_t)llround(acc[i] / pow(10, floor(log10(acc[i])) - 9)));
	return sum;
}

static void multiply(double *c, const double *a, const double *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < n; k++) {
			double f = a[i * n + k];

			for (size_t j = 0; j < n; j++)
				c[i * n + j] += f * b[k * n + j];
		}
	}
}

uint64_t kernel_matmul(void)
{
	enum { N = 384, TIMES = 6 };
	double *a = kernel_alloc(3 * N * N * sizeof(*a)), *b = a + N * N, *c = b + N * N;
	uint64_t seed = 7, sum = 0;

	for (size_t i = 0; i < N * N; i++) {
		a[i] = (double)(next(&seed) >> 40) / (1 << 24);
		b[i] = (double)(next(&seed) >> 40) / (1 << 24);
	}
	for (unsigned t = 0; t < TIMES; t++)
		multiply(c, a, b, N);
	for (size_t i = 0; i < N * N; i += 100) {
		uint64_t bits;

		memcpy(&bits, &c[i], 8);
		sum = mix(sum, bits);
	}
	return sum;
}

/* --- memory --------------------------------------------------------------------------------- */

uint64_t kernel_chase(void)
{
	enum { N = 16 << 20 >> 6, STEPS = 2 << 20 };
	struct line {
		struct line *next;
		uint64_t id, fill[6];
	} *line = kernel_alloc(N * sizeof(*line));
	uint32_t *order = kernel_alloc(N * sizeof(*order));
	uint64_t seed = 3, sum = 0;

	for (uint32_t i = 0; i < N; i++)
		order[i] = i;
	for (uint32_t i = N - 1; i > 0; i--) {
		uint32_t j = (uint32_t)(next(&seed) % (i + 1)), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (uint32_t i = 0; i < N; i++) {
		line[order[i]].next = &line[order[(i + 1) % N]];
		line[order[i]].id = i;
	}
	struct line *l = line;

	for (uint32_t i = 0; i < STEPS; i++) {
		sum += l->id;
		l = l->next;
	}
	return mix(sum, l->id);
}

uint64_t kernel_memcpy(void)
{
	enum { BIG = 8 << 20, TIMES = 128, SMALL = 512000 };
	uint8_t *from = kernel_alloc(BIG), *to = kernel_alloc(BIG);
	uint64_t seed = 11, sum = 0;

	for (size_t i = 0; i < BIG; i += 8)
		memcpy(from + i, &(uint64_t){ next(&seed) }, 8);
	for (unsigned t = 0; t < TIMES; t++) {
		from[t * 4096] ^= (uint8_t)t;
		memcpy(to, from, BIG);
		sum = mix(sum, to[t * 4096]);
	}
	for (unsigned t = 0; t < SMALL; t++) {
		uint64_t r = next(&seed);
		size_t len = 1 + (r & 4095), at = r >> 12 & 0xffff, dest = r >> 28 & 0xffff;

		memcpy(to + dest, from + at, len);
		sum = mix(sum, to[dest + len / 2]);
	}
	return sum;
}
