/* SPDX-License-Identifier: Apache-2.0 */
/* deflate.c - section numbers are those of RFC 1951.
 *
 * Matches are looked for in chains of earlier places with the same three bytes, and put off by one byte when the next
 * one is longer. What is found is collected as tokens; a block is full of them, or what is left, and is written with
 * codes of its own or the fixed ones, whichever is shorter. */
#include "blk/qcow2/deflate.h"

#include <stdlib.h>
#include <string.h>

enum {
	WINDOW = 4096,
	HASH_BITS = 13,
	MIN_MATCH = 3, MAX_MATCH = 258,
	FAR_SHORT = 1024,               /* three bytes from farther away cost more than they save */
	CHAIN_MAX = 8,                  /* places that are looked at */
	GOOD_MATCH = 24,                /* long enough not to look for a better one behind the next byte */
	BLOCK_TOKENS = 16384,
	N_LITLEN = 286, N_DIST = 30, N_CODELEN = 19, END_OF_BLOCK = 256, FIRST_LENGTH = 257,
	CODE_MAX = 15, CODELEN_MAX = 7, /* bits */
	BASE_MAX = 1 << 30,
};

/* A literal (DIST 0), or a match. */
struct token { uint16_t len_or_byte, dist; };

struct code { uint8_t len[N_LITLEN + 2]; uint16_t bits[N_LITLEN + 2]; };

struct q2_deflate {
	uint32_t base;                  /* of the positions below: what is less belongs to earlier input */
	uint32_t head[1 << HASH_BITS], prev[WINDOW];
	struct token tokens[BLOCK_TOKENS];
	unsigned n_tokens;
	uint32_t litlen_freq[N_LITLEN], dist_freq[N_DIST];
	/* out */
	uint8_t *out;
	size_t at, cap;
	uint64_t acc;                   /* N_ACC bits that are not written yet */
	unsigned n_acc;
};

struct q2_deflate *q2_deflate_new(void)
{
	struct q2_deflate *d = calloc(1, sizeof(*d));

	if (d)
		d->base = 1;            /* 0 in a chain is its end */
	return d;
}

void q2_deflate_free(struct q2_deflate *d)
{
	free(d);
}

/* --- bits, the lowest first (3.1.1) ------------------------------------------------------------------- */

static void put_bits(struct q2_deflate *d, uint32_t bits, unsigned n)
{
	d->acc |= (uint64_t)bits << d->n_acc;
	d->n_acc += n;
	if (d->n_acc >= 32) {
		for (unsigned i = 0; i < 4; i++)
			d->out[d->at + i] = (uint8_t)(d->acc >> (8 * i));
		d->at += 4;
		d->acc >>= 32;
		d->n_acc -= 32;
	}
}

static void put_rest(struct q2_deflate *d)
{
	for (; d->n_acc; d->n_acc -= d->n_acc < 8 ? d->n_acc : 8) {
		d->out[d->at++] = (uint8_t)d->acc;
		d->acc >>= 8;
	}
}

/* --- symbols of lengths and distances (3.2.5) --------------------------------------------------------- */

static unsigned top_bit(unsigned v) { return 31 - (unsigned)__builtin_clz(v); }

static unsigned length_symbol(unsigned len, unsigned *extra)
{
	unsigned x = len - MIN_MATCH;

	*extra = 0;
	if (len == MAX_MATCH)
		return N_LITLEN - 1;
	if (x < 8)
		return FIRST_LENGTH + x;
	*extra = top_bit(x) - 2;
	return FIRST_LENGTH + 4 * (*extra + 1) + (x >> *extra & 3);
}

static unsigned dist_symbol(unsigned dist, unsigned *extra)
{
	unsigned x = dist - 1;

	*extra = 0;
	if (x < 4)
		return x;
	*extra = top_bit(x) - 1;
	return 2 * (*extra + 1) + (x >> *extra & 1);
}

/* --- codes (3.2.2) ------------------------------------------------------------------------------------ */

struct leaf { uint32_t freq; uint16_t symbol; };

static int leaf_compare(const void *a, const void *b)
{
	const struct leaf *x = a, *y = b;

	return x->freq != y->freq ? (x->freq < y->freq ? -1 : 1) : (int)x->symbol - (int)y->symbol;
}

/* How many of N leaves, the rarest first, have a code of each length in Huffman's tree: N_OF[]. */
static void tree_lengths(const struct leaf *leaf, unsigned n, unsigned n_of[])
{
	uint32_t sum[N_LITLEN];
	uint16_t parent[2 * N_LITLEN];
	uint8_t depth[2 * N_LITLEN];
	unsigned next_leaf = 0, next_node = 0;

	/* Nodes come in the order of their sums: the two smallest are at the front of one queue or the other. */
	for (unsigned node = 0; node < n - 1; node++) {
		sum[node] = 0;
		for (int child = 0; child < 2; child++) {
			if (next_leaf < n && (next_node >= node || leaf[next_leaf].freq <= sum[next_node])) {
				sum[node] += leaf[next_leaf].freq;
				parent[next_leaf++] = (uint16_t)(n + node);
			} else {
				sum[node] += sum[next_node];
				parent[n + next_node++] = (uint16_t)(n + node);
			}
		}
	}
	depth[n + n - 2] = 0;
	for (unsigned i = n + n - 2; i-- > 0;) {
		depth[i] = (uint8_t)(depth[parent[i]] + 1);
		if (i < n)
			n_of[depth[i]]++;
	}
}

/* No code longer than MAX, and all of them together use each sequence of bits. */
static void tree_limit(unsigned n_of[], unsigned deepest, unsigned max)
{
	uint32_t used = 0;

	for (unsigned i = max + 1; i <= deepest; i++) {
		n_of[max] += n_of[i];
		n_of[i] = 0;
	}
	for (unsigned i = 1; i <= max; i++)
		used += n_of[i] << (max - i);
	while (used > 1u << max) {
		unsigned i = max - 1;

		while (!n_of[i])
			i--;
		n_of[i]--;
		n_of[i + 1]++;
		used -= 1u << (max - i - 1);
	}
	while (used < 1u << max) {
		n_of[max]--;
		n_of[max - 1]++;
		used++;
	}
}

static uint16_t reversed(unsigned bits, unsigned n)
{
	unsigned r = 0;

	for (; n; n--, bits >>= 1)
		r = r << 1 | (bits & 1);
	return (uint16_t)r;
}

/* From lengths to bits. */
static void code_assign(struct code *c, unsigned n)
{
	unsigned next[CODE_MAX + 2] = { 0 }, n_of[CODE_MAX + 1] = { 0 };

	for (unsigned i = 0; i < n; i++)
		n_of[c->len[i]]++;
	n_of[0] = 0;
	for (unsigned i = 1; i <= CODE_MAX; i++)
		next[i + 1] = (next[i] + n_of[i]) << 1;
	for (unsigned i = 0; i < n; i++)
		c->bits[i] = c->len[i] ? reversed(next[c->len[i]]++, c->len[i]) : 0;
}

/* The best code for N symbols, of at most MAX bits. At least two symbols have one, so that it is complete. */
static void code_make(struct code *c, const uint32_t *freq, unsigned n, unsigned max)
{
	struct leaf leaf[N_LITLEN];
	unsigned n_of[N_LITLEN] = { 0 }, n_leaves = 0, at = 0;

	memset(c->len, 0, sizeof(c->len));
	for (unsigned i = 0; i < n; i++)
		if (freq[i])
			leaf[n_leaves++] = (struct leaf){ freq[i], (uint16_t)i };
	for (unsigned i = 0; n_leaves < 2; i++)
		if (!freq[i])
			leaf[n_leaves++] = (struct leaf){ 1, (uint16_t)i };
	qsort(leaf, n_leaves, sizeof(*leaf), leaf_compare);
	tree_lengths(leaf, n_leaves, n_of);
	tree_limit(n_of, n_leaves - 1, max);
	for (unsigned len = max; len; len--)
		for (unsigned i = 0; i < n_of[len]; i++)
			c->len[leaf[at++].symbol] = (uint8_t)len;
	code_assign(c, n);
}

/* 3.2.6 */
static void code_fixed(struct code *litlen, struct code *dist)
{
	for (unsigned i = 0; i < N_LITLEN + 2; i++)
		litlen->len[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
	for (unsigned i = 0; i < N_DIST; i++)
		dist->len[i] = 5;
	code_assign(litlen, N_LITLEN + 2);
	code_assign(dist, N_DIST);
}

/* --- the header of a block: its codes (3.2.7) ----------------------------------------------------------- */

struct header {
	unsigned n_litlen, n_dist, n_codelen, n;
	uint8_t symbol[N_LITLEN + N_DIST], extra[N_LITLEN + N_DIST];
	struct code code;
	uint64_t bits;
};

static const uint8_t codelen_order[N_CODELEN] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
static const uint8_t codelen_extra[N_CODELEN] = { [16] = 2, [17] = 3, [18] = 7 };

static void header_add(struct header *h, uint32_t *freq, unsigned symbol, unsigned extra)
{
	h->symbol[h->n] = (uint8_t)symbol;
	h->extra[h->n++] = (uint8_t)extra;
	freq[symbol]++;
}

/* N lengths in a row, with repetitions told as such. */
static void header_runs(struct header *h, uint32_t *freq, const uint8_t *len, unsigned n)
{
	for (unsigned i = 0, run; i < n; i += run) {
		unsigned most = len[i] ? 7 : 138;

		for (run = 1; i + run < n && run < most && len[i + run] == len[i]; run++)
			;
		if (!len[i] && run >= 11) {
			header_add(h, freq, 18, run - 11);
		} else if (!len[i] && run >= 3) {
			header_add(h, freq, 17, run - 3);
		} else if (len[i] && run >= 4) {
			header_add(h, freq, len[i], 0);
			header_add(h, freq, 16, run - 4);
		} else {
			run = 1;
			header_add(h, freq, len[i], 0);
		}
	}
}

static void header_make(struct header *h, const struct code *litlen, const struct code *dist)
{
	uint32_t freq[N_CODELEN] = { 0 };
	uint8_t len[N_LITLEN + N_DIST];

	*h = (struct header){ .n_litlen = N_LITLEN, .n_dist = N_DIST, .n_codelen = N_CODELEN };
	while (h->n_litlen > 257 && !litlen->len[h->n_litlen - 1])
		h->n_litlen--;
	while (h->n_dist > 1 && !dist->len[h->n_dist - 1])
		h->n_dist--;
	memcpy(len, litlen->len, h->n_litlen);
	memcpy(len + h->n_litlen, dist->len, h->n_dist);
	header_runs(h, freq, len, h->n_litlen + h->n_dist);
	code_make(&h->code, freq, N_CODELEN, CODELEN_MAX);
	while (h->n_codelen > 4 && !h->code.len[codelen_order[h->n_codelen - 1]])
		h->n_codelen--;
	h->bits = 14 + 3 * h->n_codelen;
	for (unsigned i = 0; i < h->n; i++)
		h->bits += h->code.len[h->symbol[i]] + (unsigned)codelen_extra[h->symbol[i]];
}

static void header_put(struct q2_deflate *d, const struct header *h)
{
	put_bits(d, h->n_litlen - 257, 5);
	put_bits(d, h->n_dist - 1, 5);
	put_bits(d, h->n_codelen - 4, 4);
	for (unsigned i = 0; i < h->n_codelen; i++)
		put_bits(d, h->code.len[codelen_order[i]], 3);
	for (unsigned i = 0; i < h->n; i++) {
		put_bits(d, h->code.bits[h->symbol[i]], h->code.len[h->symbol[i]]);
		put_bits(d, h->extra[i], codelen_extra[h->symbol[i]]);
	}
}

/* --- blocks ------------------------------------------------------------------------------------------- */

/* Of all tokens in these codes; what is behind symbols is the same in all. */
static uint64_t block_bits(const struct q2_deflate *d, const struct code *litlen, const struct code *dist)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < N_LITLEN; i++)
		bits += (uint64_t)d->litlen_freq[i] * litlen->len[i];
	for (unsigned i = 0; i < N_DIST; i++)
		bits += (uint64_t)d->dist_freq[i] * dist->len[i];
	for (unsigned i = FIRST_LENGTH + 8; i < N_LITLEN - 1; i++)
		bits += (uint64_t)d->litlen_freq[i] * ((i - FIRST_LENGTH) / 4 - 1);
	for (unsigned i = 4; i < N_DIST; i++)
		bits += (uint64_t)d->dist_freq[i] * (i / 2 - 1);
	return bits;
}

static void block_put(struct q2_deflate *d, const struct code *litlen, const struct code *dist)
{
	for (unsigned i = 0; i < d->n_tokens; i++) {
		const struct token *t = &d->tokens[i];
		unsigned symbol = t->len_or_byte, extra = 0;

		if (t->dist)
			symbol = length_symbol(t->len_or_byte, &extra);
		put_bits(d, litlen->bits[symbol], litlen->len[symbol]);
		if (!t->dist)
			continue;
		put_bits(d, (t->len_or_byte - MIN_MATCH) & ((1u << extra) - 1), extra);
		symbol = dist_symbol(t->dist, &extra);
		put_bits(d, dist->bits[symbol], dist->len[symbol]);
		put_bits(d, (t->dist - 1u) & ((1u << extra) - 1), extra);
	}
	put_bits(d, litlen->bits[END_OF_BLOCK], litlen->len[END_OF_BLOCK]);
}

/* What has been collected. -1: it does not fit. */
static int block_end(struct q2_deflate *d, int is_last)
{
	struct code litlen, dist, fixed_litlen = { 0 }, fixed_dist = { 0 };
	struct header h;

	d->litlen_freq[END_OF_BLOCK] = 1;
	code_make(&litlen, d->litlen_freq, N_LITLEN, CODE_MAX);
	code_make(&dist, d->dist_freq, N_DIST, CODE_MAX);
	header_make(&h, &litlen, &dist);
	code_fixed(&fixed_litlen, &fixed_dist);
	uint64_t bits = h.bits + block_bits(d, &litlen, &dist), fixed = block_bits(d, &fixed_litlen, &fixed_dist);
	int is_fixed = fixed <= bits;

	if (d->at * 8 + d->n_acc + 3 + (is_fixed ? fixed : bits) > (uint64_t)d->cap * 8)
		return -1;
	put_bits(d, (uint32_t)is_last | (is_fixed ? 1u : 2u) << 1, 3);
	if (!is_fixed)
		header_put(d, &h);
	block_put(d, is_fixed ? &fixed_litlen : &litlen, is_fixed ? &fixed_dist : &dist);
	d->n_tokens = 0;
	memset(d->litlen_freq, 0, sizeof(d->litlen_freq));
	memset(d->dist_freq, 0, sizeof(d->dist_freq));
	return 0;
}

/* DIST 0: byte LEN. */
static int token_add(struct q2_deflate *d, unsigned len, unsigned dist)
{
	unsigned extra;

	d->tokens[d->n_tokens++] = (struct token){ (uint16_t)len, (uint16_t)dist };
	d->litlen_freq[dist ? length_symbol(len, &extra) : len]++;
	if (dist)
		d->dist_freq[dist_symbol(dist, &extra)]++;
	return d->n_tokens == BLOCK_TOKENS ? block_end(d, 0) : 0;
}

/* --- matches -------------------------------------------------------------------------------------------- */

struct match { unsigned len, dist; };

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static unsigned hash_of(const uint8_t *p)
{
	uint32_t v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;

	return v * 0x9e3779b1u >> (32 - HASH_BITS);
}

static unsigned match_len(const uint8_t *a, const uint8_t *b, unsigned limit)
{
	unsigned n = 0;

	for (; n + 8 <= limit; n += 8) {
		uint64_t x = load64(a + n), y = load64(b + n);

		if (x != y) {
			while (a[n] == b[n])
				n++;
			return n;
		}
	}
	while (n < limit && a[n] == b[n])
		n++;
	return n;
}

/* Enter place AT into its chain; what stood there before. */
static uint32_t chain_add(struct q2_deflate *d, const uint8_t *in, size_t at)
{
	uint32_t pos = d->base + (uint32_t)at, *head = &d->head[hash_of(in + at)], before = *head;

	d->prev[pos % WINDOW] = before;
	*head = pos;
	return before;
}

/* The longest match for place AT that is longer than LEAST; and enter AT. */
static struct match match_find(struct q2_deflate *d, const uint8_t *in, size_t at, size_t end, unsigned least)
{
	uint32_t pos = d->base + (uint32_t)at, lowest = at > WINDOW ? pos - WINDOW : d->base;
	unsigned limit = end - at < MAX_MATCH ? (unsigned)(end - at) : MAX_MATCH;
	struct match best = { .len = least };

	if (limit < MIN_MATCH)
		return best;
	uint32_t p = chain_add(d, in, at);

	for (unsigned i = 0; i < CHAIN_MAX && p >= lowest && best.len < limit; i++) {
		const uint8_t *there = in + (p - d->base);

		if (there[best.len] == in[at + best.len]) {
			unsigned len = match_len(there, in + at, limit);

			if (len > best.len && (len > MIN_MATCH || pos - p <= FAR_SHORT))
				best = (struct match){ len, pos - p };
		}
		uint32_t next = d->prev[p % WINDOW];

		if (next >= p)
			break;          /* overwritten: what was there is out of reach */
		p = next;
	}
	return best;
}

static int pack_all(struct q2_deflate *d, const uint8_t *in, size_t len)
{
	struct match m = { 0 };         /* for place AT, if it was found already */
	size_t at = 0;
	int r = 0;

	while (!r && at < len) {
		if (!m.dist)
			m = match_find(d, in, at, len, MIN_MATCH - 1);
		if (!m.dist) {
			r = token_add(d, in[at++], 0);
			continue;
		}
		struct match next = { 0 };
		size_t entered = at + 1;        /* so far */

		if (m.len < GOOD_MATCH && at + 1 < len) {
			next = match_find(d, in, at + 1, len, m.len);
			entered++;
		}
		if (next.dist) {
			r = token_add(d, in[at++], 0);
			m = next;
			continue;
		}
		r = token_add(d, m.len, m.dist);
		for (size_t end = at + m.len; entered < end && entered + MIN_MATCH <= len; entered++)
			chain_add(d, in, entered);
		at += m.len;
		m.dist = 0;
	}
	return r;
}

size_t q2_deflate_pack(struct q2_deflate *d, const uint8_t *in, size_t in_len, uint8_t *out, size_t cap)
{
	if (d->base > BASE_MAX) {
		memset(d->head, 0, sizeof(d->head));
		d->base = 1;
	}
	d->out = out;
	d->at = 0;
	d->cap = cap;
	d->acc = 0;
	d->n_acc = d->n_tokens = 0;
	memset(d->litlen_freq, 0, sizeof(d->litlen_freq));
	memset(d->dist_freq, 0, sizeof(d->dist_freq));
	int r = pack_all(d, in, in_len);

	if (!r)
		r = block_end(d, 1);
	d->base += (uint32_t)in_len;
	if (r)
		return 0;
	put_rest(d);
	return d->at;
}
