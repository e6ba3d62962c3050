/* SPDX-License-Identifier: Apache-2.0 */
/* bundle.c - the descriptor of a .hdd folder, DiskDescriptor.xml: which file has the disk. One storage
 * with one image, compressed (expandable) or plain. Of XML what such a file uses: elements, text, comments, the
 * five entities; no DTD. */
#include "blk/parallels/parallels_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { XML_DEPTH_MAX = 16, XML_TEXT_MAX = 1024 };

bool prl_is_descriptor(const uint8_t *head, size_t len)
{
	static const char mark[] = "<Parallels_disk_image";

	return len > 5 && head[0] == '<' && memmem(head, len < 512 ? len : 512, mark, sizeof(mark) - 1);
}

struct found {
	char type[32], file[XML_TEXT_MAX];
	uint64_t sectors;
	unsigned n_storages, n_images;
};

/* Where in the document: names of the open elements, joined by '/'. */
struct xml {
	const char *p;
	char path[XML_DEPTH_MAX * 40];
	unsigned depth;
};

static bool xml_text(const char *from, const char *to, char *out, size_t cap)
{
	static const struct { const char *name; char c; } entities[] = {
		{ "&lt;", '<' }, { "&gt;", '>' }, { "&amp;", '&' }, { "&quot;", '"' }, { "&apos;", '\'' },
	};
	size_t n = 0;

	while (from < to) {
		char c = *from;
		size_t len = 1;

		for (size_t i = 0; *from == '&' && i < ARRAY_LEN(entities); i++) {
			if (strncmp(from, entities[i].name, strlen(entities[i].name)))
				continue;
			c = entities[i].c;
			len = strlen(entities[i].name);
		}
		if ((*from == '&' && len == 1) || n + 1 >= cap)
			return false;
		out[n++] = c;
		from += len;
	}
	out[n] = '\0';
	return true;
}

static bool xml_number(const char *text, uint64_t *out)
{
	size_t n = strspn(text, "0123456789");

	if (!n || n > 18 || text[n])
		return false;
	*out = strtoull(text, NULL, 10);
	return true;
}

/* The text of the element that ends. */
static bool found_take(struct found *f, const char *path, const char *from, const char *to)
{
	static const char root[] = "/Parallels_disk_image/";
	char number[32];

	if (strncmp(path, root, sizeof(root) - 1))
		return true;
	path += sizeof(root) - 1;
	if (!strcmp(path, "StorageData/Storage/Image/Type"))
		return xml_text(from, to, f->type, sizeof(f->type));
	if (!strcmp(path, "StorageData/Storage/Image/File"))
		return xml_text(from, to, f->file, sizeof(f->file));
	if (!strcmp(path, "Disk_Parameters/Disk_size"))
		return xml_text(from, to, number, sizeof(number)) && xml_number(number, &f->sectors);
	f->n_storages += !strcmp(path, "StorageData/Storage");
	f->n_images += !strcmp(path, "StorageData/Storage/Image");
	return true;
}

static bool xml_open(struct xml *x, const char *name, size_t len)
{
	size_t at = strlen(x->path);

	if (!len || len > 38 || ++x->depth > XML_DEPTH_MAX || at + len + 2 > sizeof(x->path))
		return false;
	x->path[at] = '/';
	memcpy(x->path + at + 1, name, len);
	x->path[at + 1 + len] = '\0';
	return true;
}

static bool xml_close(struct xml *x, const char *name, size_t len)
{
	char *slash = strrchr(x->path, '/');

	if (!slash || strlen(slash + 1) != len || memcmp(slash + 1, name, len))
		return false;
	*slash = '\0';
	x->depth--;
	return true;
}

/* All of the document; false: it is none. */
static bool xml_walk(struct xml *x, struct found *f)
{
	const char *text = x->p;

	while ((x->p = strchr(x->p, '<'))) {
		const char *tag = x->p + 1, *before = x->p;
		const char *end = !strncmp(tag, "!--", 3) ? strstr(tag, "-->") : strchr(tag, '>');

		if (!end)
			return false;
		x->p = !strncmp(tag, "!--", 3) ? end + 3 : end + 1;
		if (*tag == '?' || !strncmp(tag, "!--", 3))
			continue;
		if (*tag == '!')
			return false;
		if (*tag == '/') {
			if (!found_take(f, x->path, text, before) || !xml_close(x, tag + 1, (size_t)(end - tag) - 1))
				return false;
		} else if (end[-1] != '/' && !xml_open(x, tag, strcspn(tag, " \t\r\n>"))) {
			return false;
		}
		text = x->p;
	}
	return !x->depth;
}

static int bundle_check(const struct prl *s, const struct found *f, struct err *err)
{
	const char *name = s->t.b->name;

	if (f->n_storages != 1 || f->n_images != 1)
		return err_set(err, -ENOTSUP, "'%s' has %u parts and %u images; bundles of one image are known: "
			       "merge its "
			       "snapshots", name, f->n_storages, f->n_images);
	if (!f->file[0] || !f->sectors || f->sectors > INT64_MAX / BLK_SECTOR)
		return err_set(err, -EINVAL, "'%s' does not name its image or its size", name);
	if (strcmp(f->type, "Compressed") && strcmp(f->type, "Plain"))
		return err_set(err, -ENOTSUP, "'%s' has an image of type '%s', which is not known", name, f->type);
	return 0;
}

int prl_bundle_open(struct prl *s, struct err *err)
{
	struct blk *b = s->t.b;
	uint64_t len = b->file->size;
	AUTO(free) char *text = len <= PRL_XML_MAX ? calloc(1, len + 1) : NULL;
	AUTO(free) struct found *f = calloc(1, sizeof(*f));
	struct xml x = { .p = text };

	if (!text || !f)
		return err_set(err, len > PRL_XML_MAX ? -EINVAL : -ENOMEM, "'%s' is not a Parallels image", b->name);
	int r = blk_co_pread(b->file, 0, text, len);

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r));
	if (!prl_is_descriptor((const uint8_t *)text, len))
		return err_set(err, -EINVAL, "'%s' is not a Parallels image", b->name);
	if (strlen(text) != len || !xml_walk(&x, f))
		return err_set(err, -EINVAL, "'%s' is damaged: it is not the XML that a descriptor has", b->name);
	r = bundle_check(s, f, err);
	if (!r)
		r = blk_co_open_extra(b, f->file, !strcmp(f->type, "Plain") ? "raw" : "parallels", &s->image, err);
	if (r < 0)
		return err_wrap(err, r, "image of '%s'", b->name);
	if (s->image->size != f->sectors * BLK_SECTOR)
		return err_set(err, -EINVAL, "'%s' says that its disk has %" PRIu64 " sectors, and the image has "
			       "%" PRIu64,
			       b->name, f->sectors, s->image->size / BLK_SECTOR);
	b->size = s->image->size;
	b->cluster_size = s->image->cluster_size;
	b->can_discard = !b->is_readonly && s->image->can_discard;
	return 0;
}

/* --- writing one ------------------------------------------------------------------------------ */

/* The image of a bundle without snapshots is always called that. */
static const char top_guid[] = "{5fbaabe3-6958-40ff-92a7-860e329aab41}", no_guid[] = "{00000000-0000-0000-0000-000000000000}";

int prl_bundle_write(struct blk_creating *c, const char *image, uint64_t cluster, struct err *err)
{
	uint8_t uuid[16];
	char id[BAT_UUID_TEXT];
	AUTO(free) char *text = NULL;
	uint64_t sectors = c->size / BLK_SECTOR;

	bat_uuid_make(uuid);
	int n = asprintf(&text,
		"<?xml version='1.0' encoding='UTF-8'?>\n"
		"<Parallels_disk_image Version=\"1.0\">\n"
		"  <Disk_Parameters>\n"
		"    <Disk_size>%" PRIu64 "</Disk_size>\n"
		"    <Cylinders>%" PRIu64 "</Cylinders>\n"
		"    <PhysicalSectorSize>4096</PhysicalSectorSize>\n"
		"    <LogicSectorSize>512</LogicSectorSize>\n"
		"    <Heads>%d</Heads>\n"
		"    <Sectors>%d</Sectors>\n"
		"    <Padding>0</Padding>\n"
		"    <Encryption><Engine>%s</Engine><Data></Data></Encryption>\n"
		"    <UID>{%s}</UID>\n"
		"    <Name>disk</Name>\n"
		"    <Miscellaneous><CompatLevel>level2</CompatLevel><Bootable>1</Bootable><SuspendState>0</SuspendState></Miscellaneous>\n"
		"  </Disk_Parameters>\n"
		"  <StorageData>\n"
		"    <Storage>\n"
		"      <Start>0</Start>\n"
		"      <End>%" PRIu64 "</End>\n"
		"      <Blocksize>%" PRIu64 "</Blocksize>\n"
		"      <Image>\n"
		"        <GUID>%s</GUID>\n"
		"        <Type>Compressed</Type>\n"
		"        <File>%s</File>\n"
		"      </Image>\n"
		"    </Storage>\n"
		"  </StorageData>\n"
		"  <Snapshots>\n"
		"    <Shot><GUID>%s</GUID><ParentGUID>%s</ParentGUID></Shot>\n"
		"  </Snapshots>\n"
		"</Parallels_disk_image>\n",
		sectors, (sectors + PRL_PER_CYLINDER - 1) / PRL_PER_CYLINDER, PRL_HEADS, PRL_SECTORS, no_guid,
		bat_uuid_text(uuid, id), sectors, cluster / BLK_SECTOR, top_guid, image, top_guid, no_guid);
	if (n < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = blk_co_pwrite(c->file, 0, text, (size_t)n);
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", c->args->path, strerror(-r)) : 0;
}
