/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/fwcfg.h"

#include <assert.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"

enum { PORT_SELECT = 0, PORT_DATA = 1 };
enum { ID_PORTS = 1, ID_DMA = 2 };
enum { DIR_ENTRY = 64, DIR_NAME = 8 };

/* FWCfgDmaAccess: control, length, address; all big-endian. */
enum { ACCESS_LEN = 16 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };

static const uint8_t dma_signature[FWCFG_DMA_PORTS] = { 'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G' };

static const struct field fwcfg_fields[] = {
	FIELD(struct fwcfg_state, selected, 1),
	FIELD(struct fwcfg_state, offset, 1),
	FIELD_RAW(struct fwcfg_state, dma, 1),
};
const struct state_desc fwcfg_state_desc = {
	.name = "fwcfg", .version = 1, .size = sizeof(struct fwcfg_state),
	.n_fields = ARRAY_LEN(fwcfg_fields), .fields = fwcfg_fields,
};

/* What is left of the selected item. */
static const uint8_t *fwcfg_rest(const struct fwcfg *f, uint32_t *len)
{
	for (unsigned i = 0; i < f->n; i++) {
		const struct fwcfg_item *it = &f->item[i];

		if (it->key != f->s.selected || f->s.offset >= it->len)
			continue;
		*len = it->len - f->s.offset;
		return it->data + f->s.offset;
	}
	*len = 0;
	return NULL;
}

static void fwcfg_select(struct fwcfg *f, uint16_t key)
{
	f->s.selected = key;
	f->s.offset = 0;
}

static void fwcfg_advance(struct fwcfg *f, uint32_t n)
{
	f->s.offset = f->s.offset > UINT32_MAX - n ? UINT32_MAX : f->s.offset + n;
}

/* Behind its end an item is all zeros. */
static uint64_t fwcfg_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct fwcfg *f = dev;
	uint32_t left;
	const uint8_t *p = fwcfg_rest(f, &left);

	if (off != PORT_DATA)
		return 0;
	fwcfg_advance(f, 1);
	return left ? *p : 0;
}

static void fwcfg_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	if (off == PORT_SELECT && size == 2)
		fwcfg_select(dev, (uint16_t)val);
}

/* Copy LEN bytes of the item, and zeros behind it, to GPA. */
static int fwcfg_copy(struct fwcfg *f, gpa_t gpa, uint32_t len)
{
	uint32_t left;
	const uint8_t *p = fwcfg_rest(f, &left);
	uint32_t n = len < left ? len : left;

	if (n && gmem_write(f->mem, gpa, p, n) < 0)
		return -1;
	return len > n && gmem_fill(f->mem, gpa + n, 0, len - n) < 0 ? -1 : 0;
}

static uint32_t fwcfg_transfer(struct fwcfg *f, uint32_t control, uint32_t len, gpa_t gpa)
{
	if (control & DMA_SELECT)
		fwcfg_select(f, (uint16_t)(control >> 16));
	if (control & DMA_WRITE || len > FWCFG_DMA_MAX)
		return DMA_ERROR;
	if (control & DMA_READ && fwcfg_copy(f, gpa, len) < 0)
		return DMA_ERROR;
	if (control & (DMA_READ | DMA_SKIP))
		fwcfg_advance(f, len);
	return 0;
}

static void fwcfg_do_dma(struct fwcfg *f)
{
	gpa_t at = get_be64(f->s.dma);
	uint8_t a[ACCESS_LEN], done[4];

	memset(f->s.dma, 0, sizeof(f->s.dma));
	if (gmem_read(f->mem, at, a, sizeof(a)) < 0)
		return;
	put_be32(done, fwcfg_transfer(f, get_be32(a), get_be32(a + 4), get_be64(a + 8)));
	/* The guest may have made the transfer overwrite its own request: that is what it gets. */
	if (gmem_write(f->mem, at, done, sizeof(done)) < 0)
		return;
}

static uint64_t fwcfg_dma_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size && off + i < FWCFG_DMA_PORTS; i++)
		v |= (uint64_t)dma_signature[off + i] << 8 * i;
	return v;
}

/* The write that reaches the last byte starts the transfer. */
static void fwcfg_dma_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct fwcfg *f = dev;

	for (unsigned i = 0; i < size && off + i < FWCFG_DMA_PORTS; i++)
		f->s.dma[off + i] = (uint8_t)(val >> 8 * i);
	if (off + size == FWCFG_DMA_PORTS)
		fwcfg_do_dma(f);
}

void fwcfg_add(struct fwcfg *f, uint16_t key, const void *data, uint32_t len)
{
	assert(f->n < FWCFG_ITEMS_MAX);
	f->item[f->n++] = (struct fwcfg_item){ .key = key, .data = data, .len = len };
}

void fwcfg_add_number(struct fwcfg *f, uint16_t key, uint64_t value, unsigned size)
{
	assert(f->n < FWCFG_ITEMS_MAX);
	put_le64(f->small[f->n], value);
	fwcfg_add(f, key, f->small[f->n], size);
}

void fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, uint32_t len)
{
	unsigned n = f->next_file++ - FWCFG_FILE_FIRST;
	uint8_t *e = f->dir + 4 + n * DIR_ENTRY;

	fwcfg_add(f, (uint16_t)(FWCFG_FILE_FIRST + n), data, len);
	assert(strlen(name) < FWCFG_NAME_MAX);
	put_be32(e, len);
	put_be16(e + 4, (uint16_t)(FWCFG_FILE_FIRST + n));
	memcpy(e + DIR_NAME, name, strlen(name));
	put_be32(f->dir, n + 1);
}

void fwcfg_reset(struct fwcfg *f)
{
	f->s = (struct fwcfg_state){ .selected = FWCFG_SIGNATURE };
}

void fwcfg_init(struct fwcfg *f, struct gmem *mem)
{
	*f = (struct fwcfg){
		.ports = { .name = "fw_cfg", .dev = f, .read = fwcfg_read, .write = fwcfg_write },
		.dma = { .name = "fw_cfg-dma", .dev = f, .read = fwcfg_dma_read, .write = fwcfg_dma_write },
		.mem = mem, .next_file = FWCFG_FILE_FIRST,
	};
	fwcfg_add(f, FWCFG_SIGNATURE, dma_signature, 4);
	fwcfg_add_number(f, FWCFG_ID, ID_PORTS | ID_DMA, 4);
	fwcfg_add(f, FWCFG_FILE_DIR, f->dir, sizeof(f->dir));
	fwcfg_reset(f);
}
