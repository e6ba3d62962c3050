/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the file of a saved machine. Every number in it is checked before it is used. */
#include "vm/state_file_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/secret.h"
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "util/reader.h"
#include "vm/state_pack.h"
#include "vm/state_seal.h"

int state_file_bad(const struct state_file *f, struct err *err, const char *why)
{
	return err_set(err, -EPROTO, "'%s' is not a whole saved machine: %s", f->name, why);
}

int state_file_read(const struct state_file *f, void *buf, size_t len, uint64_t at, struct err *err)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = pread(f->fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot read '%s': %s", f->name, strerror(errno));
		if (!n)
			return state_file_bad(f, err, "it ends too early");
		p += n;
		at += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* --- header --- */

static bool ram_is_possible(const struct state_file *f)
{
	return f->ram >= GMEM_MIN_SIZE && f->ram <= GMEM_MAX_SIZE && f->ram % GMEM_PAGE_SIZE == 0 &&
	       (!state_file_is_mapped(f) || f->memory_len == f->ram);
}

/* Do the parts lie in the file, in their order? */
static bool header_is_possible(const struct state_file *f, uint64_t sections_off, uint64_t sections_len, bool is_sealed)
{
	uint64_t memory_end, sections_end, end;

	if (f->memory_off < (is_sealed ? sizeof(struct state_head) : sizeof(struct state_header)) || f->memory_off % GMEM_PAGE_SIZE ||
	    (is_sealed ? f->ram || sections_len < STATE_SEAL_TAG : !ram_is_possible(f)) || sections_len > STATE_SECTIONS_MAX)
		return false;
	return u64_add(f->memory_off, f->memory_len, &memory_end) && memory_end <= sections_off &&
	       u64_add(sections_off, sections_len, &sections_end) &&
	       u64_add(sections_end, sizeof(struct state_end), &end) && end == f->file_len;
}

static int read_end(const struct state_file *f, uint32_t crc, struct err *err)
{
	struct state_end e;
	int r = state_file_read(f, &e, sizeof(e), f->file_len - sizeof(e), err);

	if (r < 0)
		return r;
	if (memcmp(e.magic, STATE_END_MAGIC, sizeof(e.magic)) || le32_get(e.header_crc) != crc)
		return state_file_bad(f, err, "its end is not the one that was written");
	return 0;
}

static int check_header(struct state_file *f, struct state_header h, struct err *err)
{
	uint32_t crc = le32_get(h.crc), version = le32_get(h.version);

	if (memcmp(h.magic, STATE_MAGIC, sizeof(h.magic)))
		return state_file_bad(f, err, "it does not begin as one, or its writing was cut short");
	h.crc = le32_of(0);
	if (crc32c(0, &h, sizeof(h)) != crc)
		return state_file_bad(f, err, "its header is damaged");
	if (version != STATE_VERSION && version != STATE_VERSION_SEALED)
		return err_set(err, -EPROTO, "'%s' is of format version %u; this program reads versions %d and %d", f->name, version,
			       STATE_VERSION, STATE_VERSION_SEALED);
	uint64_t file_len = f->file_len;
	f->file_len = le64_get(h.file_len);
	f->memory_off = le64_get(h.memory_off);
	f->memory_len = le64_get(h.memory_len);
	f->ram = le64_get(h.ram);
	f->packing = (enum state_packing)le32_get(h.packing);
	if (!state_packing_is_known(f->packing))
		return state_file_bad(f, err, "its memory is packed in an unknown way");
	if (f->file_len != file_len)
		return state_file_bad(f, err, "its length is not the one that was written");
	if (!header_is_possible(f, le64_get(h.sections_off), le32_get(h.sections_len), version == STATE_VERSION_SEALED))
		return state_file_bad(f, err, "its header is impossible");
	return read_end(f, crc, err);
}

static int read_header(struct state_file *f, struct state_header *h, struct err *err)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return err_set(err, -errno, "cannot read '%s': %s", f->name, strerror(errno));
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < sizeof(*h))
		return state_file_bad(f, err, "it is no regular file, or too short");
	f->file_len = (uint64_t)st.st_size;
	int r = state_file_read(f, h, sizeof(*h), 0, err);
	return r ? r : check_header(f, *h, err);
}

/* --- encryption --- */

/* A file that is not encrypted may have been written by anybody: who has a secret for it expects another one. */
static int open_lock(struct state_file *f, struct state_head *head, const struct blk_secret *secret, struct err *err)
{
	bool is_sealed = le32_get(head->header.version) == STATE_VERSION_SEALED, has_secret = secret && secret->len;

	if (!is_sealed)
		return !has_secret ? 0 : err_set(err, -EINVAL, "'%s' is not encrypted, so that nobody knows who wrote it; "
						 "to continue it nevertheless, leave its key file out", f->name);
	if (!has_secret)
		return err_set(err, -ENOKEY, "'%s' is encrypted; give its passphrase with --restore-key-file FILE", f->name);
	int r = state_file_read(f, &head->lock, sizeof(head->lock), sizeof(head->header), err);

	return r ? r : state_seal_open(&f->seal, &head->lock, secret, f->name, err);
}

/* LEN bytes, of which nothing is believed before; *LEN is that of the sections then. */
static int open_sections(struct state_file *f, const struct state_head *head, uint32_t *len, struct err *err)
{
	struct state_sealer x = { NULL };
	int r = state_sealer_init(&x, f->seal, err);

	*len -= STATE_SEAL_TAG;
	if (!r && !state_open_piece(&x, STATE_PIECE_SECTIONS, 0, head, sizeof(*head), f->sections, f->sections, *len))
		r = state_file_bad(f, err, "its header or its sections are not what was encrypted");
	state_sealer_fini(&x);
	return r;
}

/* The size of memory, which the header of an encrypted file does not tell. */
static int find_ram(struct state_file *f, struct err *err)
{
	size_t len = 0;
	const uint8_t *p = state_file_get(f, STATE_RAM_TAG, &len);

	f->ram = p && len == sizeof(le64) ? get_le64(p) : 0;
	return ram_is_possible(f) ? 0 : state_file_bad(f, err, "the size of its memory is missing or impossible");
}

/* --- sections --- */

static struct state_tag *find_tag(const struct state_file *f, const char *name, size_t len)
{
	for (unsigned i = 0; i < f->n_tags; i++) {
		if (f->tag[i].name_len == len && !memcmp(f->tag[i].name, name, len))
			return (struct state_tag *)&f->tag[i];
	}
	return NULL;
}

static int read_section(struct state_file *f, struct reader *r, struct err *err)
{
	const uint8_t *n = reader_take(r, 1), *name = n ? reader_take(r, *n) : NULL, *len = name ? reader_take(r, 4) : NULL;
	const uint8_t *data = len ? reader_take(r, get_le32(len)) : NULL, *crc = data ? reader_take(r, 4) : NULL;

	if (!crc || !*n)
		return state_file_bad(f, err, "its sections end too early");
	for (unsigned i = 0; i < *n; i++) {
		if (name[i] < 0x21 || name[i] > 0x7e)
			return state_file_bad(f, err, "the name of a section is not text");
	}
	if (crc32c(0, n, (size_t)(crc - n)) != get_le32(crc))
		return err_set(err, -EPROTO, "'%s' is damaged: section '%.*s' has another checksum than when it was written",
			       f->name, *n, (const char *)name);
	if (f->n_tags == TAGS_MAX || find_tag(f, (const char *)name, *n))
		return state_file_bad(f, err, "it has too many sections, or one of them twice");
	f->tag[f->n_tags++] = (struct state_tag){
		.name = (const char *)name, .name_len = *n, .data = data, .len = get_le32(len),
	};
	return 0;
}

static int split_sections(struct state_file *f, size_t len, struct err *err)
{
	struct reader r = { f->sections, len };
	int rc = 0;

	while (!rc && r.left)
		rc = read_section(f, &r, err);
	return rc;
}

static int read_sections(struct state_file *f, const struct state_head *head, struct err *err)
{
	uint32_t len = le32_get(head->header.sections_len);

	f->sections = malloc((size_t)len + 1);
	if (!f->sections)
		return err_set(err, -ENOMEM, "out of memory");
	int r = state_file_read(f, f->sections, len, le64_get(head->header.sections_off), err);

	if (!r && f->seal)
		r = open_sections(f, head, &len, err);
	if (!r)
		r = split_sections(f, len, err);
	return r || !f->seal ? r : find_ram(f, err);
}

/* Extents go upwards in RAM and lie where the packing says. */
static int check_table(struct state_file *f, struct err *err)
{
	uint64_t ram_at = 0, file_at = f->memory_off;
	size_t len = 0;

	f->table = state_file_get(f, STATE_TABLE_TAG, &len);
	if (!f->table || len % sizeof(struct state_extent))
		return state_file_bad(f, err, "the table of its memory is missing or cut");
	f->n_extents = len / sizeof(struct state_extent);
	for (size_t i = 0; i < f->n_extents; i++) {
		struct state_extent e = state_file_row(f, i);
		uint64_t off = le64_get(e.off), at = le64_get(e.at);
		uint32_t n = le32_get(e.len), stored = le32_get(e.stored);
		bool is_good = off >= ram_at && off % GMEM_PAGE_SIZE == 0 && n % GMEM_PAGE_SIZE == 0 && n &&
			       n <= STATE_EXTENT_MAX && range_fits(off, n, f->ram) && at >= file_at &&
			       range_fits(at, stored, f->memory_off + f->memory_len);

		if (is_good && f->packing == STATE_RAW)
			is_good = f->seal ? stored == n + STATE_SEAL_TAG : at == f->memory_off + off && stored == n;
		if (!is_good || (f->seal && stored < STATE_SEAL_TAG) || stored > state_pack_bound() + STATE_SEAL_TAG)
			return state_file_bad(f, err, "the table of its memory is impossible");
		ram_at = off + n;
		file_at = at + stored;
	}
	return 0;
}

int state_file_open(struct state_file **out, int fd, const struct blk_secret *secret, const char *name, struct err *err)
{
	AUTO(state_file_close) struct state_file *f = calloc(1, sizeof(*f));
	struct state_head head = { .header.magic = "" };

	if (!f || !(f->name = strdup(name))) {
		close(fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	f->fd = fd;
	int r = read_header(f, &head.header, err);
	if (!r)
		r = open_lock(f, &head, secret, err);
	if (!r)
		r = read_sections(f, &head, err);
	if (!r)
		r = check_table(f, err);
	if (!r)
		*out = take_ptr(&f);
	return r;
}

int state_file_of_sections(struct state_file **out, const uint8_t *sections, size_t len, uint64_t ram, const char *name,
			   struct err *err)
{
	AUTO(state_file_close) struct state_file *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	f->fd = -1;
	f->name = strdup(name);
	f->sections = malloc(len + 1);
	if (!f->name || !f->sections)
		return err_set(err, -ENOMEM, "out of memory");
	f->ram = ram;
	if (len)
		memcpy(f->sections, sections, len);
	int r = split_sections(f, len, err);
	if (!r)
		*out = take_ptr(&f);
	return r;
}

void state_file_close(struct state_file *f)
{
	if (!f)
		return;
	if (f->name && f->fd >= 0)
		close(f->fd);
	free(f->name);
	free(f->sections);
	state_seal_free(f->seal);
	free(f);
}

uint64_t state_file_ram(const struct state_file *f)
{
	return f->ram;
}

enum state_packing state_file_packing(const struct state_file *f)
{
	return f->packing;
}

const uint8_t *state_file_get(struct state_file *f, const char *tag, size_t *len)
{
	struct state_tag *t = find_tag(f, tag, strlen(tag));

	if (!t)
		return NULL;
	t->is_used = true;
	*len = t->len;
	return t->data;
}

int state_file_load(struct state_file *f, const char *tag, const struct state_desc *d, void *state, struct err *err)
{
	size_t len;
	const uint8_t *p = state_file_get(f, tag, &len);

	if (!p)
		return err_set(err, -EPROTO, "'%s' has no section '%s'", f->name, tag);
	long n = fields_load(d, state, p, len, err);
	if (n < 0)
		return err_wrap(err, (int)n, "'%s', section '%s'", f->name, tag);
	return (size_t)n == len ? 0 : err_set(err, -EPROTO, "'%s': section '%s' is too long", f->name, tag);
}

bool state_file_same(struct state_file *a, struct state_file *b, const char *tag)
{
	size_t a_len = 0, b_len = 0;
	const uint8_t *p = state_file_get(a, tag, &a_len), *q = state_file_get(b, tag, &b_len);

	return p && q && a_len == b_len && !memcmp(p, q, a_len);
}

int state_file_all_used(const struct state_file *f, struct err *err)
{
	for (unsigned i = 0; i < f->n_tags; i++) {
		const struct state_tag *t = &f->tag[i];

		if (!t->is_used)
			return err_set(err, -EPROTO, "'%s' has a section '%.*s' that this machine has no use for", f->name,
				       (int)t->name_len, t->name);
	}
	return 0;
}
