/* SPDX-License-Identifier: Apache-2.0 */
/* ovf.c - the descriptor: which files are disks, and what machine it is. DSP0243 1.1, sections 7 to 9.
 *
 * expat reads the XML. A document type is refused at once, and with it every entity: nothing is ever fetched. */
#include "blk/ova/ova_priv.h"

#include <errno.h>
#include <expat.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "util/cleanup.h"

#define NS_OVF "http://schemas.dmtf.org/ovf/envelope/"
enum { OVF_DEPTH_MAX = 32, OVF_TEXT_MAX = 256, OVF_FILES_MAX = BLK_OVA_DISKS_MAX, NS_SEP = '|' };
enum { OVF_CPU = 3, OVF_MEMORY = 4 };   /* CIM_ResourceAllocationSettingData.ResourceType */

struct ovf_file { char id[128], href[BLK_OVA_NAME_MAX]; bool is_packed, is_chunked; };

struct ovf {
	XML_Parser parser;
	struct blk_ova_info *out;
	const char *name;
	struct err *err;
	int result;
	unsigned depth;
	struct ovf_file files[OVF_FILES_MAX];
	unsigned n_files;
	char refs[BLK_OVA_DISKS_MAX][128];      /* of disks: the id of their file */
	char text[OVF_TEXT_MAX];        /* of the element that is open */
	size_t text_len;
	unsigned item_type;             /* of the Item that is open */
	uint64_t item_quantity, item_unit;
};

static void ovf_fail(struct ovf *o, int code, const char *why)
{
	if (!o->result)
		o->result = err_set(o->err, code, "the descriptor of '%s' cannot be used: %s", o->name, why);
	XML_StopParser(o->parser, XML_FALSE);
}

/* The local part of NAME if it is of the envelope's namespace. */
static const char *ovf_local(const char *name)
{
	const char *sep = strrchr(name, NS_SEP);

	return sep && !strncmp(name, NS_OVF, sizeof(NS_OVF) - 1) ? sep + 1 : NULL;
}

static const char *ovf_attr(const char **attrs, const char *want)
{
	for (; attrs[0]; attrs += 2) {
		const char *local = ovf_local(attrs[0]);

		if (local && !strcmp(local, want))
			return attrs[1];
	}
	return NULL;
}

static bool ovf_copy(char *to, size_t cap, const char *from)
{
	if (!from || strlen(from) >= cap)
		return false;
	strcpy(to, from);
	for (const char *p = to; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

static bool ovf_u64(const char *text, uint64_t *out)
{
	uint64_t v = 0;

	if (!text || !*text)
		return false;
	for (; *text; text++)
		if (*text < '0' || *text > '9' || !u64_mul(v, 10, &v) || !u64_add(v, (uint64_t)(*text - '0'), &v))
			return false;
	*out = v;
	return true;
}

/* "byte * 2^30", "MegaBytes": how many bytes. 0: not known. */
static uint64_t ovf_unit(const char *text)
{
	static const struct { const char *name; unsigned bits; } names[] = {
		{ "byte", 0 }, { "bytes", 0 }, { "KiloBytes", 10 }, { "MegaBytes", 20 }, { "GigaBytes", 30 },
		{ "KB", 10 }, { "MB", 20 }, { "GB", 30 }, { "TB", 40 },
	};
	unsigned bits;
	char end;

	if (!text)
		return 1;
	if (sscanf(text, "byte * 2^%2u%c", &bits, &end) == 1 || sscanf(text, "byte*2^%2u%c", &bits, &end) == 1)
		return bits <= 50 ? 1ull << bits : 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcasecmp(text, names[i].name))
			return 1ull << names[i].bits;
	return 0;
}

/* --- elements ----------------------------------------------------------------------------------- */

static void ovf_on_file(struct ovf *o, const char **attrs)
{
	const char *packing = ovf_attr(attrs, "compression");
	struct ovf_file *f = &o->files[o->n_files];

	if (o->n_files == OVF_FILES_MAX) {
		ovf_fail(o, -EFBIG, "it names too many files");
		return;
	}
	if (!ovf_copy(f->id, sizeof(f->id), ovf_attr(attrs, "id")) ||
	    !ovf_copy(f->href, sizeof(f->href), ovf_attr(attrs, "href"))) {
		ovf_fail(o, -EINVAL, "a file has no name or too long a one");
		return;
	}
	if (strchr(f->href, '/') || strchr(f->href, ':') || !f->href[0]) {
		ovf_fail(o, -EACCES, "it names a file that is not in the archive");
		return;
	}
	f->is_packed = packing && packing[0] && strcmp(packing, "identity");
	f->is_chunked = ovf_attr(attrs, "chunkSize");
	o->n_files++;
}

static void ovf_on_disk(struct ovf *o, const char **attrs)
{
	const char *ref = ovf_attr(attrs, "fileRef"), *capacity = ovf_attr(attrs, "capacity");
	struct blk_ova_disk *d = &o->out->disks[o->out->n_disks];
	uint64_t unit = ovf_unit(ovf_attr(attrs, "capacityAllocationUnits"));

	if (!ref)
		return;                 /* an empty disk */
	if (o->out->n_disks == BLK_OVA_DISKS_MAX) {
		ovf_fail(o, -EFBIG, "it has too many disks");
		return;
	}
	*d = (struct blk_ova_disk){ .capacity = 0 };
	if (!ovf_copy(d->id, sizeof(d->id), ovf_attr(attrs, "diskId")) ||
	    !ovf_copy(o->refs[o->out->n_disks], sizeof(o->refs[0]), ref)) {
		ovf_fail(o, -EINVAL, "a disk has no name or too long a one");
		return;
	}
	if (ovf_attr(attrs, "parentRef")) {
		ovf_fail(o, -ENOTSUP, "a disk has another one behind it");
		return;
	}
	if (!ovf_copy(d->format, sizeof(d->format), ovf_attr(attrs, "format")))
		d->format[0] = '\0';
	/* A capacity may be the name of a property: then it is not known here. */
	if (!ovf_u64(capacity, &d->capacity) || !unit || !u64_mul(d->capacity, unit, &d->capacity))
		d->capacity = 0;
	o->out->n_disks++;
}

static void ovf_start(void *arg, const char *name, const char **attrs)
{
	const char *local = ovf_local(name);
	struct ovf *o = arg;

	o->text_len = 0;
	o->text[0] = '\0';
	if (++o->depth > OVF_DEPTH_MAX) {
		ovf_fail(o, -EINVAL, "it nests too deep");
		return;
	}
	if (o->depth == 1 && (!local || strcmp(local, "Envelope"))) {
		ovf_fail(o, -EINVAL, "it is no OVF envelope of version 1 or 2");
		return;
	}
	if (!local)
		return;
	if (!strcmp(local, "File"))
		ovf_on_file(o, attrs);
	else if (!strcmp(local, "Disk"))
		ovf_on_disk(o, attrs);
	else if (!strcmp(local, "VirtualSystem") && !o->out->name[0] &&
		 !ovf_copy(o->out->name, sizeof(o->out->name), ovf_attr(attrs, "id")))
		o->out->name[0] = '\0';
	else if (!strcmp(local, "Item"))
		o->item_type = 0, o->item_quantity = 0, o->item_unit = 1;
}

static void ovf_text(void *arg, const char *text, int len)
{
	struct ovf *o = arg;
	size_t room = sizeof(o->text) - 1 - o->text_len, n = (size_t)len < room ? (size_t)len : room;

	memcpy(o->text + o->text_len, text, n);
	o->text_len += n;
	o->text[o->text_len] = '\0';
}

static void ovf_item_end(struct ovf *o)
{
	if (o->item_type == OVF_CPU && !o->out->cpus && o->item_quantity <= 4096)
		o->out->cpus = (unsigned)o->item_quantity;
	if (o->item_type == OVF_MEMORY && !o->out->memory && o->item_unit)
		(void)u64_mul(o->item_quantity, o->item_unit, &o->out->memory);
}

/* Fields of an Item are of CIM's namespace. */
static void ovf_end(void *arg, const char *name)
{
	const char *sep = strrchr(name, NS_SEP), *local = sep ? sep + 1 : name;
	struct ovf *o = arg;
	uint64_t v = 0;

	o->depth--;
	if (!strcmp(local, "ResourceType") && ovf_u64(o->text, &v))
		o->item_type = v < 1000 ? (unsigned)v : 0;
	else if (!strcmp(local, "VirtualQuantity") && ovf_u64(o->text, &v))
		o->item_quantity = v;
	else if (!strcmp(local, "AllocationUnits"))
		o->item_unit = ovf_unit(o->text);
	else if (!strcmp(local, "Item") && ovf_local(name))
		ovf_item_end(o);
	o->text_len = 0;
	o->text[0] = '\0';
}

static void ovf_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int has_subset)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)has_subset;
	ovf_fail(arg, -EINVAL, "it has a document type, which may define entities");
}

/* Disks name files by id: which member is it? */
static int ovf_resolve(struct ovf *o)
{
	for (unsigned i = 0; i < o->out->n_disks; i++) {
		struct blk_ova_disk *d = &o->out->disks[i];
		unsigned k = 0;

		while (k < o->n_files && strcmp(o->files[k].id, o->refs[i]))
			k++;
		if (k == o->n_files)
			return err_set(o->err, -EINVAL, "disk '%s' in '%s' is in a file that is not named", d->id,
				       o->name);
		if (o->files[k].is_packed || o->files[k].is_chunked)
			return err_set(o->err, -ENOTSUP,
				       "disk '%s' in '%s' is %s as a whole; unpack the archive first", d->id,
				       o->name, o->files[k].is_packed ? "compressed" : "cut into pieces");
		memcpy(d->file, o->files[k].href, sizeof(d->file));
	}
	return 0;
}

int ovf_parse(const char *text, size_t len, const char *name, struct blk_ova_info *out, struct err *err)
{
	AUTO(free) struct ovf *o = calloc(1, sizeof(*o));
	XML_Parser p = o ? XML_ParserCreateNS(NULL, NS_SEP) : NULL;

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	o->parser = p;
	o->out = out;
	o->name = name;
	o->err = err;
	XML_SetUserData(p, o);
	XML_SetElementHandler(p, ovf_start, ovf_end);
	XML_SetCharacterDataHandler(p, ovf_text);
	XML_SetStartDoctypeDeclHandler(p, ovf_doctype);
	XML_SetParamEntityParsing(p, XML_PARAM_ENTITY_PARSING_NEVER);
	enum XML_Status s = len <= OVA_TEXT_MAX ? XML_Parse(p, text, (int)len, 1) : XML_STATUS_ERROR;

	if (s != XML_STATUS_OK && !o->result)
		o->result = err_set(err, -EINVAL, "the descriptor of '%s' is no XML: %s in line %lu", name,
				    XML_ErrorString(XML_GetErrorCode(p)), (unsigned long)XML_GetCurrentLineNumber(p));
	XML_ParserFree(p);
	return o->result ? o->result : ovf_resolve(o);
}
