/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/pci.c - virtio over PCI, modern only (VIRTIO 1.2, 4.1).
 *
 * BAR 0 holds common configuration, ISR, device configuration and MSI-X; its accesses come
 * with bus_lock held and take the device lock. BAR 2 is the doorbell page: BUS_UNLOCKED, one
 * atomic exchange and perhaps one write to an eventfd. Left out on purpose: INTx, the legacy
 * and transitional interfaces, notification data, shared memory regions. */
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"
#include "virtio/device.h"

enum {
	PCI_VENDOR_VIRTIO = 0x1af4, PCI_DEVICE_VIRTIO = 0x1040, PCI_CAP_VENDOR = 9,
	BAR_CONFIG = 0, BAR_NOTIFY = 2,
	OFF_COMMON = 0x0000, OFF_ISR = 0x1000, OFF_DEVICE = 0x2000, OFF_MSIX = 0x3000,
	BAR_CONFIG_SIZE = 0x4000, BAR_NOTIFY_SIZE = 0x1000,
	COMMON_LEN = 60, MSIX_LEN = 0x1000,
	NOTIFY_MULTIPLIER = 4,
};
_Static_assert(VIRTIO_QUEUES_MAX * NOTIFY_MULTIPLIER <= BAR_NOTIFY_SIZE, "doorbells fit their page");
_Static_assert(VIRTIO_QUEUES_MAX + 1 <= PCI_MSIX_MAX, "a vector for each queue and one for configuration");

enum virtio_pci_cap_type { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };

/* 4.1.4, struct virtio_pci_cap without the two generic bytes; EXTRA is the multiplier of the
 * notification capability and the data field of the configuration window. */
struct cap_body {
	uint8_t cap_len, cfg_type, bar, id, padding[2];
	le32 offset, length, extra;
};
_Static_assert(sizeof(struct cap_body) == 18, "4.1.4");
enum { CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_DATA = 16, CAP_END = 20 };

static struct log_guest guest_bad_access = LOG_GUEST("virtio: access of wrong size or place");

/* ---- common configuration (4.1.4.3) ---- */

static struct vq *selected(struct virtio_dev *d)
{
	return d->s.queue_select < d->n_queues ? &d->queue[d->s.queue_select].vq : NULL;
}

static uint64_t device_feature_read(struct virtio_dev *d)
{
	return d->s.device_feature_select < 2 ? (uint32_t)(d->features >> 32 * d->s.device_feature_select) : 0;
}

static uint64_t driver_feature_read(struct virtio_dev *d)
{
	return d->s.driver_feature_select < 2 ?
		(uint32_t)(d->s.driver_features >> 32 * d->s.driver_feature_select) : 0;
}

static void driver_feature_write(struct virtio_dev *d, uint64_t v)
{
	unsigned shift = 32 * d->s.driver_feature_select;

	if (d->s.driver_feature_select < 2 && !(d->s.status & VIRTIO_FEATURES_OK))
		d->s.driver_features = (d->s.driver_features & ~(0xffffffffull << shift)) | v << shift;
}

static uint16_t vector_or_none(const struct virtio_dev *d, uint64_t v)
{
	return v < d->pci.n_msix ? (uint16_t)v : VQ_NO_VECTOR;
}

static uint64_t dfselect_read(struct virtio_dev *d) { return d->s.device_feature_select; }
static void dfselect_write(struct virtio_dev *d, uint64_t v) { d->s.device_feature_select = (uint32_t)v; }
static uint64_t gfselect_read(struct virtio_dev *d) { return d->s.driver_feature_select; }
static void gfselect_write(struct virtio_dev *d, uint64_t v) { d->s.driver_feature_select = (uint32_t)v; }
static uint64_t config_vector_read(struct virtio_dev *d) { return d->s.config_vector; }
static void config_vector_write(struct virtio_dev *d, uint64_t v) { d->s.config_vector = vector_or_none(d, v); }
static uint64_t num_queues_read(struct virtio_dev *d) { return d->n_queues; }
static uint64_t status_read(struct virtio_dev *d) { return virtio_get_status(d); }
static void status_write(struct virtio_dev *d, uint64_t v) { virtio_set_status(d, (uint8_t)v); }
static uint64_t generation_read(struct virtio_dev *d) { return d->s.config_generation; }
static uint64_t queue_select_read(struct virtio_dev *d) { return d->s.queue_select; }
static void queue_select_write(struct virtio_dev *d, uint64_t v) { d->s.queue_select = (uint16_t)v; }
static uint64_t queue_notify_off_read(struct virtio_dev *d) { return selected(d) ? d->s.queue_select : 0; }

static uint64_t queue_size_read(struct virtio_dev *d)
{
	return selected(d) ? selected(d)->s.size : 0;
}

/* The rings of a queue cannot move while it is enabled. */
static struct vq *selected_idle(struct virtio_dev *d)
{
	struct vq *vq = selected(d);

	return vq && !vq->s.is_enabled && !d->is_resetting && !d->queue[d->s.queue_select].is_resetting ? vq : NULL;
}

static void queue_size_write(struct virtio_dev *d, uint64_t v)
{
	struct vq *vq = selected_idle(d);

	if (vq && v <= vq->size_max && is_pow2(v))
		vq->s.size = (uint16_t)v;
}

static uint64_t queue_vector_read(struct virtio_dev *d)
{
	return selected(d) ? selected(d)->s.vector : VQ_NO_VECTOR;
}

static void queue_vector_write(struct virtio_dev *d, uint64_t v)
{
	if (selected(d))
		selected(d)->s.vector = vector_or_none(d, v);
}

static uint64_t queue_enable_read(struct virtio_dev *d)
{
	return selected(d) ? selected(d)->s.is_enabled : 0;
}

static void queue_enable_write(struct virtio_dev *d, uint64_t v)
{
	if (selected(d) && v == 1)      /* 4.1.4.3.2: never write 0 */
		virtio_queue_enable(d, d->s.queue_select);
}

static uint64_t queue_reset_read(struct virtio_dev *d)
{
	return selected(d) ? d->queue[d->s.queue_select].is_resetting : 0;
}

static void queue_reset_write(struct virtio_dev *d, uint64_t v)
{
	if (selected(d) && v == 1)
		virtio_queue_reset(d, d->s.queue_select);
}

static uint64_t queue_desc_read(struct virtio_dev *d) { return selected(d) ? selected(d)->s.desc : 0; }
static uint64_t queue_avail_read(struct virtio_dev *d) { return selected(d) ? selected(d)->s.avail : 0; }
static uint64_t queue_used_read(struct virtio_dev *d) { return selected(d) ? selected(d)->s.used : 0; }

static void queue_desc_write(struct virtio_dev *d, uint64_t v)
{
	if (selected_idle(d))
		selected(d)->s.desc = v;
}

static void queue_avail_write(struct virtio_dev *d, uint64_t v)
{
	if (selected_idle(d))
		selected(d)->s.avail = v;
}

static void queue_used_write(struct virtio_dev *d, uint64_t v)
{
	if (selected_idle(d))
		selected(d)->s.used = v;
}

static const struct common_reg {
	uint8_t off, size;
	const char *name;
	uint64_t (*read)(struct virtio_dev *d);
	void (*write)(struct virtio_dev *d, uint64_t v);        /* NULL: read-only */
} common_regs[] = {
	{  0, 4, "device_feature_select", dfselect_read,         dfselect_write },
	{  4, 4, "device_feature",        device_feature_read,   NULL },
	{  8, 4, "driver_feature_select", gfselect_read,         gfselect_write },
	{ 12, 4, "driver_feature",        driver_feature_read,   driver_feature_write },
	{ 16, 2, "config_msix_vector",    config_vector_read,    config_vector_write },
	{ 18, 2, "num_queues",            num_queues_read,       NULL },
	{ 20, 1, "device_status",         status_read,           status_write },
	{ 21, 1, "config_generation",     generation_read,       NULL },
	{ 22, 2, "queue_select",          queue_select_read,     queue_select_write },
	{ 24, 2, "queue_size",            queue_size_read,       queue_size_write },
	{ 26, 2, "queue_msix_vector",     queue_vector_read,     queue_vector_write },
	{ 28, 2, "queue_enable",          queue_enable_read,     queue_enable_write },
	{ 30, 2, "queue_notify_off",      queue_notify_off_read, NULL },
	{ 32, 8, "queue_desc",            queue_desc_read,       queue_desc_write },
	{ 40, 8, "queue_driver",          queue_avail_read,      queue_avail_write },
	{ 48, 8, "queue_device",          queue_used_read,       queue_used_write },
	{ 56, 2, "queue_notify_data",     queue_notify_off_read, NULL },
	{ 58, 2, "queue_reset",           queue_reset_read,      queue_reset_write },
};

/* The register of an access. Natural width, or one half of a 64-bit field (4.1.3.1). */
static const struct common_reg *common_find(uint64_t off, unsigned size)
{
	for (unsigned i = 0; i < ARRAY_LEN(common_regs); i++) {
		const struct common_reg *r = &common_regs[i];

		if (off == r->off && size == r->size)
			return r;
		if (r->size == 8 && size == 4 && (off == r->off || off == r->off + 4u))
			return r;
	}
	return NULL;
}

static uint64_t common_read(struct virtio_dev *d, uint64_t off, unsigned size)
{
	const struct common_reg *r = common_find(off, size);

	if (!r) {
		log_guest(&guest_bad_access, off);
		return UINT64_MAX;
	}
	return r->read(d) >> 8 * (off - r->off);
}

static void common_write(struct virtio_dev *d, uint64_t off, unsigned size, uint64_t v)
{
	const struct common_reg *r = common_find(off, size);

	if (!r) {
		log_guest(&guest_bad_access, off);
		return;
	}
	if (!r->write)
		return;
	if (size < r->size) {
		unsigned shift = 8 * (unsigned)(off - r->off);

		v = (r->read(d) & ~(0xffffffffull << shift)) | (v & 0xffffffff) << shift;
	}
	r->write(d, v);
}

/* ---- the other structures ---- */

static uint64_t isr_read(struct virtio_dev *d, uint64_t off, unsigned size)
{
	uint8_t isr = d->s.isr;

	if (off)
		return 0;
	d->s.isr = 0;                   /* 4.1.4.5: reading acknowledges */
	return isr;
}

static uint64_t device_read(struct virtio_dev *d, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	if (range_fits(off, size, d->config_len))
		memcpy(&v, d->s.config + off, size);
	return v;
}

static void isr_write(struct virtio_dev *d, uint64_t off, unsigned size, uint64_t v)
{
	/* Read-only. */
}

static void device_write(struct virtio_dev *d, uint64_t off, unsigned size, uint64_t v)
{
	if (d->ops->config_write && range_fits(off, size, d->config_len))
		d->ops->config_write(d, off, size, v);
}

static const struct bar_part {
	uint32_t off, len;
	uint8_t cap_type;
	uint64_t (*read)(struct virtio_dev *d, uint64_t off, unsigned size);
	void (*write)(struct virtio_dev *d, uint64_t off, unsigned size, uint64_t v);
} bar_parts[] = {
	{ OFF_COMMON, COMMON_LEN,        CAP_COMMON, common_read, common_write },
	{ OFF_ISR,    4,                 CAP_ISR,    isr_read,    isr_write },
	{ OFF_DEVICE, VIRTIO_CONFIG_MAX, CAP_DEVICE, device_read, device_write },
};

static const struct bar_part *bar_find(uint64_t off, unsigned size)
{
	for (unsigned i = 0; i < ARRAY_LEN(bar_parts); i++)
		if (off >= bar_parts[i].off && range_fits(off - bar_parts[i].off, size, bar_parts[i].len))
			return &bar_parts[i];
	return NULL;
}

static uint64_t config_bar_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct virtio_dev *d = dev;
	const struct bar_part *p = bar_find(off, size);
	uint64_t v;

	if (off >= OFF_MSIX && range_fits(off - OFF_MSIX, size, MSIX_LEN))
		return pci_msix_read(&d->pci, off - OFF_MSIX, size);
	if (!p)
		return UINT64_MAX;
	virtio_lock(d);
	v = p->read(d, off - p->off, size);
	virtio_unlock(d);
	return v;
}

static void config_bar_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t v)
{
	struct virtio_dev *d = dev;
	const struct bar_part *p = bar_find(off, size);

	if (off >= OFF_MSIX && range_fits(off - OFF_MSIX, size, MSIX_LEN))
		pci_msix_write(&d->pci, off - OFF_MSIX, size, v);
	if (!p)
		return;
	virtio_lock(d);
	p->write(d, off - p->off, size, v);
	virtio_unlock(d);
}

static uint64_t notify_bar_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return 0;
}

/* The address names the queue (4.1.4.4); what is written repeats it and is not believed. */
static void notify_bar_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t v)
{
	if (off % NOTIFY_MULTIPLIER == 0)
		virtio_ring(dev, (unsigned)(off / NOTIFY_MULTIPLIER));
}

/* ---- the window in configuration space (4.1.4.9) ---- */

static struct {
	uint64_t (*read)(void *dev, unsigned cpu, uint64_t off, unsigned size);
	void (*write)(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t v);
} const windows[] = {
	[BAR_CONFIG] = { config_bar_read, config_bar_write },
	[BAR_NOTIFY] = { notify_bar_read, notify_bar_write },
};

/* Where the window looks now. False when the driver's choice is no place at all. */
static bool window_target(const struct virtio_dev *d, unsigned *bar, uint32_t *off, uint32_t *len)
{
	const uint8_t *cap = d->pci.s.cfg + d->pci_window;

	*bar = cap[CAP_BAR];
	*off = get_le32(cap + CAP_OFFSET);
	*len = get_le32(cap + CAP_LENGTH);
	return *bar < ARRAY_LEN(windows) && windows[*bar].read && (*len == 1 || *len == 2 || *len == 4) &&
	       *off % *len == 0 && range_fits(*off, *len, d->pci.bar[*bar].size);
}

static bool window_touched(const struct virtio_dev *d, unsigned off, unsigned size)
{
	return d->pci_window && range_overlaps(off, size, d->pci_window + CAP_DATA, 4);
}

static void window_reading(struct pci_dev *p, unsigned off, unsigned size)
{
	struct virtio_dev *d = container_of(p, struct virtio_dev, pci);
	uint32_t at, len;
	unsigned bar;

	if (window_touched(d, off, size) && window_target(d, &bar, &at, &len))
		put_le32(p->s.cfg + d->pci_window + CAP_DATA, (uint32_t)windows[bar].read(d, 0, at, len));
}

static void window_written(struct pci_dev *p, unsigned off, unsigned size)
{
	struct virtio_dev *d = container_of(p, struct virtio_dev, pci);
	uint32_t at, len;
	unsigned bar;

	if (window_touched(d, off, size) && window_target(d, &bar, &at, &len)) {
		uint32_t v = get_le32(p->s.cfg + d->pci_window + CAP_DATA);

		windows[bar].write(d, 0, at, len, v & (len == 4 ? UINT32_MAX : (1u << 8 * len) - 1));
	}
}

/* ---- putting it together ---- */

static unsigned virtio_cap_add(struct virtio_dev *d, uint8_t type, uint8_t bar, uint32_t off,
			       uint32_t len, uint32_t extra, unsigned body_len)
{
	struct cap_body b = {
		.cap_len = (uint8_t)(body_len + 2), .cfg_type = type, .bar = bar,
		.offset = le32_of(off), .length = le32_of(len), .extra = le32_of(extra),
	};

	return pci_cap_add(&d->pci, PCI_CAP_VENDOR, &b, body_len);
}

void virtio_pci_init(struct virtio_dev *d)
{
	enum { BODY = sizeof(struct cap_body), SHORT_BODY = BODY - 4 };
	struct pci_dev *p = &d->pci;

	p->name = d->ops->name;
	p->vendor = p->subvendor = PCI_VENDOR_VIRTIO;
	p->device = (uint16_t)(PCI_DEVICE_VIRTIO + d->ops->id);
	p->subdevice = 0x40;            /* 4.1.2.1: 0x40 or more tells it is not transitional */
	p->revision = 1;
	p->class_code = d->ops->class_code;
	p->bar[BAR_CONFIG] = (struct pci_bar){
		.size = BAR_CONFIG_SIZE,
		.region = { .name = d->ops->name, .dev = d, .read = config_bar_read, .write = config_bar_write },
	};
	p->bar[BAR_NOTIFY] = (struct pci_bar){
		.size = BAR_NOTIFY_SIZE,
		.region = { .name = d->ops->name, .dev = d, .read = notify_bar_read,
			    .write = notify_bar_write, .flags = BUS_UNLOCKED },
	};
	p->n_msix = d->n_queues + 1;
	p->msix_bar = BAR_CONFIG;
	p->msix_off = OFF_MSIX;
	p->cfg_reading = window_reading;
	p->cfg_written = window_written;
	pci_dev_init(p);
	for (unsigned i = 0; i < ARRAY_LEN(bar_parts); i++) {
		const struct bar_part *b = &bar_parts[i];
		uint32_t len = b->cap_type == CAP_DEVICE ? d->config_len : b->len;

		if (len)
			virtio_cap_add(d, b->cap_type, BAR_CONFIG, b->off, len, 0, SHORT_BODY);
	}
	virtio_cap_add(d, CAP_NOTIFY, BAR_NOTIFY, 0, BAR_NOTIFY_SIZE, NOTIFY_MULTIPLIER, BODY);
	d->pci_window = virtio_cap_add(d, CAP_PCI, 0, 0, 0, 0, BODY);
	p->wmask[d->pci_window + CAP_BAR] = 0xff;
	memset(p->wmask + d->pci_window + CAP_OFFSET, 0xff, CAP_END - CAP_OFFSET);
}

uint64_t virtio_pci_doorbell(const struct virtio_dev *d, unsigned queue)
{
	const struct bus_region *r = &d->pci.bar[BAR_NOTIFY].region;

	return r->is_mapped ? r->base + (uint64_t)queue * NOTIFY_MULTIPLIER : UINT64_MAX;
}
