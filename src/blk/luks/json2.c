/* SPDX-License-Identifier: Apache-2.0 */
/* json2.c - the JSON of LUKS2: section "LUKS2 JSON Metadata Format". All that we use is checked field by field;
 * objects that we do not know (tokens, priorities) stay as they are when the header is written. */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_DEPTH_MAX = 32, BASE64_MAX = 128, CONFIG_KEYSLOTS_MAX = 128 << 20 };

/* --- values ------------------------------------------------------------------------------------- */

static int json_bad(const struct luks *l, const char *what, struct err *err)
{
	return err_set(err, -EINVAL, "the LUKS2 metadata of '%s' is broken: %s", l->p.name, what);
}

/* 64-bit numbers are strings of digits. */
static bool json_u64(const json_t *o, const char *key, uint64_t *out)
{
	const char *s = json_string_value(json_object_get(o, key));
	uint64_t v = 0;

	if (!s || !*s || strlen(s) > 20 || (s[0] == '0' && s[1]))
		return false;
	for (; *s; s++)
		if (*s < '0' || *s > '9' || !u64_mul(v, 10, &v) || !u64_add(v, (uint64_t)(*s - '0'), &v))
			return false;
	*out = v;
	return true;
}

static bool json_u32(const json_t *o, const char *key, uint32_t *out)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
		return false;
	*out = (uint32_t)json_integer_value(v);
	return true;
}

static bool json_text(const json_t *o, const char *key, char *out, size_t cap)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (!s || strlen(s) >= cap)
		return false;
	strcpy(out, s);
	return true;
}

static bool json_is(const json_t *o, const char *key, const char *value)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && !strcmp(s, value);
}

static int base64_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

static bool json_bytes(const json_t *o, const char *key, uint8_t *out, size_t cap, unsigned *len)
{
	const char *s = json_string_value(json_object_get(o, key));
	size_t n = s ? strlen(s) : 0, pad = 0, at = 0;
	uint32_t bits = 0;

	if (!n || n % 4 || n > BASE64_MAX)
		return false;
	while (pad < 2 && s[n - 1 - pad] == '=')
		pad++;
	if (n / 4 * 3 - pad > cap)
		return false;
	for (size_t i = 0; i < n; i++) {
		int d = i >= n - pad ? 0 : base64_digit(s[i]);

		if (d < 0)
			return false;
		bits = bits << 6 | (uint32_t)d;
		for (int k = 16; i % 4 == 3 && k >= 0; k -= 8)
			if (at < n / 4 * 3 - pad)
				out[at++] = (uint8_t)(bits >> k);
	}
	*len = (unsigned)at;
	return true;
}

static json_t *json_of_bytes(const uint8_t *data, unsigned len)
{
	char text[BASE64_MAX + 4];

	EVP_EncodeBlock((unsigned char *)text, data, (int)len);
	return json_string(text);
}

static json_t *json_of_u64(uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	return json_string(text);
}

/* Names of keyslots and digests: small numbers. */
static int json_index(const char *name)
{
	size_t n = strlen(name);

	if (!n || n > 2 || (n == 2 && name[0] == '0') || strspn(name, "0123456789") != n)
		return -1;
	int i = atoi(name);

	return i < LUKS_SLOTS_MAX ? i : -1;
}

/* --- reading ------------------------------------------------------------------------------------ */

static bool slot_kdf(const json_t *o, struct luks_kdf *k)
{
	if (!json_bytes(o, "salt", k->salt, sizeof(k->salt), &k->salt_len))
		return false;
	if (json_is(o, "type", "pbkdf2")) {
		k->type = LUKS_PBKDF2;
		return json_text(o, "hash", k->hash, sizeof(k->hash)) && json_u32(o, "iterations", &k->iterations);
	}
	k->type = json_is(o, "type", "argon2i") ? LUKS_ARGON2I : LUKS_ARGON2ID;
	return (k->type == LUKS_ARGON2I || json_is(o, "type", "argon2id")) && json_u32(o, "time", &k->iterations) &&
	       json_u32(o, "memory", &k->memory_kib) && json_u32(o, "cpus", &k->lanes);
}

static int parse_slot(struct luks *l, const char *name, const json_t *o, struct err *err)
{
	const json_t *af = json_object_get(o, "af"), *area = json_object_get(o, "area"),
		     *kdf = json_object_get(o, "kdf");
	int i = json_index(name);
	uint32_t stripes = 0;

	if (i < 0 || !json_is_object(o))
		return json_bad(l, "a key slot has no number", err);
	if (!json_is(o, "type", "luks2"))
		return err_set(err, -ENOTSUP,
			       "key slot %d of '%s' is of another type than luks2 (a re-encryption that has "
			       "not ended?); finish that with: cryptsetup reencrypt",
			       i, l->p.name);
	struct luks_slot *s = &l->slots[i];

	*s = (struct luks_slot){ .is_used = true };
	if (!json_u32(o, "key_size", &s->key_bytes) || !json_is(af, "type", "luks1") ||
	    !json_u32(af, "stripes", &stripes) || !json_text(af, "hash", s->af_hash, sizeof(s->af_hash)) ||
	    !json_is(area, "type", "raw") || !json_u64(area, "offset", &s->off) || !json_u64(area, "size", &s->len) ||
	    !json_text(area, "encryption", s->cipher, sizeof(s->cipher)) ||
	    !json_u32(area, "key_size", &s->area_key_bytes) || !slot_kdf(kdf, &s->kdf))
		return json_bad(l, "a key slot lacks a field, or has an impossible one", err);
	if (stripes != LUKS_STRIPES || !s->key_bytes || s->key_bytes > LUKS_KEY_MAX || !luks_hash_size(s->af_hash) ||
	    s->off % LUKS_ALIGN || s->len % BLK_SECTOR || s->len < luks_area_len(s->key_bytes) ||
	    s->len > CONFIG_KEYSLOTS_MAX)
		return json_bad(l, "a key slot has impossible sizes", err);
	s->is_ignored = json_is_integer(json_object_get(o, "priority")) &&
			!json_integer_value(json_object_get(o, "priority"));
	int r = luks_kdf_check(&s->kdf, l->p.name, err);

	return r ? r : luks_cipher_check(s->cipher, s->area_key_bytes, l->p.name, err);
}

static int parse_segment(struct luks *l, const json_t *segments, struct err *err)
{
	const json_t *o = json_object_get(segments, "0");
	uint32_t sector = 0;

	if (json_object_size(segments) != 1 || !o)
		return err_set(err, -ENOTSUP,
			       "'%s' has %zu segments, one is supported (a re-encryption that has not ended? "
			       "finish it with: cryptsetup reencrypt)",
			       l->p.name, json_object_size(segments));
	if (json_object_get(o, "integrity"))
		return err_set(err, -ENOTSUP, "'%s' keeps authentication tags, which needs dm-integrity", l->p.name);
	if (!json_is(o, "type", "crypt") || !json_u64(o, "offset", &l->data_off) ||
	    !json_u64(o, "iv_tweak", &l->iv_tweak) || !json_text(o, "encryption", l->cipher, sizeof(l->cipher)) ||
	    !json_u32(o, "sector_size", &sector))
		return json_bad(l, "the segment lacks a field, or has an impossible one", err);
	if (!json_is(o, "size", "dynamic") && (!json_u64(o, "size", &l->data_size) || !l->data_size))
		return json_bad(l, "the segment has no size", err);
	l->sector_size = sector;
	if (!is_pow2(sector) || sector < BLK_SECTOR || sector > 4096 || l->data_off % BLK_SECTOR ||
	    l->data_size % sector)
		return json_bad(l, "the segment has impossible sizes", err);
	return 0;
}

/* Which slots hold the key of the segment. */
static int parse_bound(struct luks *l, const json_t *list, struct err *err)
{
	const json_t *v;
	size_t n;

	if (!json_is_array(list))
		return json_bad(l, "a digest has no key slots", err);
	json_array_foreach(list, n, v) {
		int i = json_is_string(v) ? json_index(json_string_value(v)) : -1;

		if (i < 0 || !l->slots[i].is_used)
			return json_bad(l, "a digest is of a key slot that is not there", err);
		l->slots[i].is_bound = true;
	}
	return 0;
}

static int parse_digest(struct luks *l, const char *name, const json_t *o, struct err *err)
{
	struct luks_digest *d = &l->digest;
	struct luks_kdf k = { .type = LUKS_PBKDF2 };

	if (json_index(name) < 0 || l->digest_id[0])
		return json_bad(l, "the segment has several digests", err);
	if (!json_is(o, "type", "pbkdf2") || !json_text(o, "hash", d->hash, sizeof(d->hash)) ||
	    !json_u32(o, "iterations", &d->iterations) ||
	    !json_bytes(o, "salt", d->salt, sizeof(d->salt), &d->salt_len) ||
	    !json_bytes(o, "digest", d->value, sizeof(d->value), &d->len) || d->len < 16)
		return json_bad(l, "a digest lacks a field, or has an impossible one", err);
	snprintf(l->digest_id, sizeof(l->digest_id), "%.3s", name);
	k.iterations = d->iterations;
	k.salt_len = d->salt_len;
	memcpy(k.hash, d->hash, sizeof(k.hash));
	int r = luks_kdf_check(&k, l->p.name, err);

	return r ? r : parse_bound(l, json_object_get(o, "keyslots"), err);
}

static int parse_digests(struct luks *l, json_t *digests, struct err *err)
{
	const char *name;
	json_t *o;
	int r = 0;

	json_object_foreach(digests, name, o) {
		const json_t *segments = json_object_get(o, "segments"), *v;
		bool is_ours = false;
		size_t n;

		json_array_foreach(segments, n, v)
			is_ours |= json_is_string(v) && !strcmp(json_string_value(v), "0");
		r = is_ours && !r ? parse_digest(l, name, o, err) : r;
	}
	if (!r && !l->digest_id[0])
		r = json_bad(l, "the segment has no digest", err);
	return r;
}

static int parse_config(struct luks *l, const json_t *config, struct err *err)
{
	const json_t *mandatory = json_object_get(json_object_get(config, "requirements"), "mandatory");
	uint64_t json_size = 0;

	if (json_array_size(mandatory)) {
		const char *first = json_string_value(json_array_get(mandatory, 0));

		return err_set(err, -ENOTSUP, "'%s' needs what is not supported: %s", l->p.name, first ? first : "?");
	}
	if (!json_u64(config, "json_size", &json_size) || json_size != l->hdr_size - sizeof(l->head) ||
	    !json_u64(config, "keyslots_size", &l->keyslots_len) || l->keyslots_len % LUKS_ALIGN ||
	    l->keyslots_len > CONFIG_KEYSLOTS_MAX)
		return json_bad(l, "its sizes do not fit", err);
	return 0;
}

/* The library's parser recurses as deep as the text nests. */
static bool json_is_shallow(const char *text, size_t len)
{
	bool is_string = false;
	int depth = 0;

	for (size_t i = 0; i < len && depth <= JSON_DEPTH_MAX; i++) {
		if (is_string && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			is_string = !is_string;
		else if (!is_string)
			depth += (text[i] == '{' || text[i] == '[') - (text[i] == '}' || text[i] == ']');
	}
	return depth <= JSON_DEPTH_MAX;
}

static int json_load(struct luks *l, const char *text, size_t cap, struct err *err)
{
	size_t len = strnlen(text, cap);

	for (size_t i = len; i < cap; i++)
		if (text[i])
			return json_bad(l, "there is something behind its end", err);
	if (len == cap || !json_is_shallow(text, len))
		return json_bad(l, "it has no end, or is nested too deep", err);
	json_decref(l->json);
	l->json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	return json_is_object(l->json) ? 0 : json_bad(l, "it is not a JSON object", err);
}

int luks2_json_parse(struct luks *l, const char *text, size_t cap, struct err *err)
{
	static const char *const parts[] = { "keyslots", "tokens", "segments", "digests", "config" };
	const char *name;
	json_t *o;
	int r = json_load(l, text, cap, err);

	for (size_t i = 0; !r && i < ARRAY_LEN(parts); i++)
		if (!json_is_object(json_object_get(l->json, parts[i])))
			r = json_bad(l, "a part is missing", err);
	if (!r)
		r = parse_config(l, json_object_get(l->json, "config"), err);
	if (!r)
		r = parse_segment(l, json_object_get(l->json, "segments"), err);
	if (r < 0)
		return r;
	l->n_slots = LUKS_SLOTS_MAX;
	json_object_foreach(json_object_get(l->json, "keyslots"), name, o)
		r = r ? r : parse_slot(l, name, o, err);
	if (!r)
		r = parse_digests(l, json_object_get(l->json, "digests"), err);
	for (unsigned i = 0; !r && i < l->n_slots; i++) {
		if (!l->slots[i].is_bound)
			continue;
		if (l->key_bytes && l->slots[i].key_bytes != l->key_bytes)
			return json_bad(l, "its key slots hold keys of different lengths", err);
		l->key_bytes = l->slots[i].key_bytes;
	}
	if (!r && l->key_bytes)
		r = luks_cipher_check(l->cipher, l->key_bytes, l->p.name, err);
	if (!r && l->p.has_data && l->data_off < 2 * l->hdr_size + l->keyslots_len)
		r = json_bad(l, "the data lies over the header", err);
	return r ? r : luks_slots_check(l, 2 * l->hdr_size, 2 * l->hdr_size + l->keyslots_len, err);
}

/* --- writing ------------------------------------------------------------------------------------ */

int luks2_json_new(struct luks *l)
{
	const struct luks_digest *d = &l->digest;

	strcpy(l->digest_id, "0");
	json_decref(l->json);
	l->json = json_pack("{s:{}, s:{}, s:{s:{s:s, s:o, s:s, s:s, s:s, s:i}},"
			    " s:{s:{s:s, s:[], s:[s], s:s, s:I, s:o, s:o}}, s:{s:o, s:o}}",
			    "keyslots", "tokens",
			    "segments", "0", "type", "crypt", "offset", json_of_u64(l->data_off), "size", "dynamic",
			    "iv_tweak", "0", "encryption", l->cipher, "sector_size", (int)l->sector_size,
			    "digests", "0", "type", "pbkdf2", "keyslots", "segments", "0", "hash", d->hash,
			    "iterations", (json_int_t)d->iterations, "salt", json_of_bytes(d->salt, d->salt_len),
			    "digest", json_of_bytes(d->value, d->len),
			    "config", "json_size", json_of_u64(l->hdr_size - sizeof(l->head)),
			    "keyslots_size", json_of_u64(l->keyslots_len));
	return l->json ? 0 : -ENOMEM;
}

static json_t *json_of_kdf(const struct luks_kdf *k)
{
	json_t *salt = json_of_bytes(k->salt, k->salt_len);

	if (k->type == LUKS_PBKDF2)
		return json_pack("{s:s, s:s, s:I, s:o}", "type", "pbkdf2", "hash", k->hash, "iterations",
				 (json_int_t)k->iterations, "salt", salt);
	return json_pack("{s:s, s:I, s:I, s:I, s:o}", "type", luks_kdf_name(k->type), "time", (json_int_t)k->iterations,
			 "memory", (json_int_t)k->memory_kib, "cpus", (json_int_t)k->lanes, "salt", salt);
}

static json_t *json_bound(struct luks *l)
{
	return json_object_get(json_object_get(json_object_get(l->json, "digests"), l->digest_id), "keyslots");
}

int luks2_json_put_slot(struct luks *l, unsigned i)
{
	const struct luks_slot *s = &l->slots[i];
	char name[12];
	json_t *o = json_pack("{s:s, s:i, s:{s:s, s:i, s:s}, s:{s:s, s:o, s:o, s:s, s:i}, s:o}",
			      "type", "luks2", "key_size", (int)s->key_bytes,
			      "af", "type", "luks1", "stripes", LUKS_STRIPES, "hash", s->af_hash,
			      "area", "type", "raw", "offset", json_of_u64(s->off), "size", json_of_u64(s->len),
			      "encryption", s->cipher, "key_size", (int)s->area_key_bytes,
			      "kdf", json_of_kdf(&s->kdf));

	snprintf(name, sizeof(name), "%u", i);
	if (!o || json_object_set_new(json_object_get(l->json, "keyslots"), name, o) < 0 ||
	    json_array_append_new(json_bound(l), json_string(name)) < 0)
		return -ENOMEM;
	return 0;
}

static void json_drop_string(json_t *array, const char *s)
{
	for (size_t n = json_array_size(array); n-- > 0;) {
		const char *v = json_string_value(json_array_get(array, n));

		if (v && !strcmp(v, s))
			json_array_remove(array, n);
	}
}

int luks2_json_drop_slot(struct luks *l, unsigned i)
{
	const char *key;
	char name[12];
	json_t *o;

	snprintf(name, sizeof(name), "%u", i);
	json_object_del(json_object_get(l->json, "keyslots"), name);
	json_object_foreach(json_object_get(l->json, "digests"), key, o)
		json_drop_string(json_object_get(o, "keyslots"), name);
	json_object_foreach(json_object_get(l->json, "tokens"), key, o)
		json_drop_string(json_object_get(o, "keyslots"), name);
	return 0;
}
