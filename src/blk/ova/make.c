/* SPDX-License-Identifier: Apache-2.0 */
/* make.c - the descriptor of a new archive. */
#include "blk/ova/ova_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FORMAT_STREAM "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

static void make_text(FILE *f, const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '&': fputs("&amp;", f); break;
		case '<': fputs("&lt;", f); break;
		case '>': fputs("&gt;", f); break;
		case '"': fputs("&quot;", f); break;
		default: fputc((unsigned char)*s < 0x20 ? ' ' : *s, f);
		}
	}
}

static void make_files(FILE *f, const struct blk_ova_make *m, const uint64_t *sizes)
{
	fputs("  <References>\n", f);
	for (unsigned i = 0; i < m->n_disks; i++) {
		fprintf(f, "    <File ovf:id=\"file%u\" ovf:href=\"", i + 1);
		make_text(f, m->disks[i].name);
		fprintf(f, "\" ovf:size=\"%" PRIu64 "\"/>\n", sizes[i]);
	}
	fputs("  </References>\n  <DiskSection>\n    <Info>Disks</Info>\n", f);
	for (unsigned i = 0; i < m->n_disks; i++) {
		fprintf(f, "    <Disk ovf:diskId=\"disk%u\" ovf:fileRef=\"file%u\" ovf:capacity=\"%" PRIu64
			"\" ovf:capacityAllocationUnits=\"byte\" ovf:format=\"", i + 1, i + 1, m->disks[i].capacity);
		make_text(f, m->disks[i].format ? m->disks[i].format : FORMAT_STREAM);
		fputs("\"/>\n", f);
	}
	fputs("  </DiskSection>\n", f);
}

/* DSP8023's type of an item is a sequence: elements stand in the order of the alphabet, or products refuse them. */
struct item {
	const char *name, *address, *address_on_parent, *units, *host, *sub_type;       /* NULL: not said */
	unsigned id, parent, type;      /* 0: not said */
	uint64_t quantity;
};

static void make_element(FILE *f, const char *name, const char *text)
{
	if (text)
		fprintf(f, "        <rasd:%s>%s</rasd:%s>\n", name, text, name);
}

static void make_number(FILE *f, const char *name, uint64_t n)
{
	if (n)
		fprintf(f, "        <rasd:%s>%" PRIu64 "</rasd:%s>\n", name, n, name);
}

static void make_item(FILE *f, const struct item *i)
{
	fputs("      <Item>\n", f);
	make_element(f, "Address", i->address);
	make_element(f, "AddressOnParent", i->address_on_parent);
	make_element(f, "AllocationUnits", i->units);
	make_element(f, "ElementName", i->name);
	make_element(f, "HostResource", i->host);
	make_number(f, "InstanceID", i->id);
	make_number(f, "Parent", i->parent);
	make_element(f, "ResourceSubType", i->sub_type);
	make_number(f, "ResourceType", i->type);
	make_number(f, "VirtualQuantity", i->quantity);
	fputs("      </Item>\n", f);
}

/* A SCSI controller of the kind that every product has, for each 15 disks; number 7 on its bus is itself. */
static void make_disks(FILE *f, const struct blk_ova_make *m)
{
	enum { PER_CONTROLLER = 15, ITSELF = 7, FIRST_ID = 3 };
	unsigned n = (m->n_disks + PER_CONTROLLER - 1) / PER_CONTROLLER;

	for (unsigned i = 0; i < n; i++) {
		char at[16];

		snprintf(at, sizeof(at), "%u", i);
		make_item(f, &(struct item){ .name = "disk controller", .address = at, .id = FIRST_ID + i, .type = 6,
					     .sub_type = "lsilogic" });
	}
	for (unsigned i = 0; i < m->n_disks; i++) {
		unsigned unit = i % PER_CONTROLLER;
		char at[16], host[32];

		snprintf(at, sizeof(at), "%u", unit < ITSELF ? unit : unit + 1);
		snprintf(host, sizeof(host), "ovf:/disk/disk%u", i + 1);
		make_item(f, &(struct item){ .name = "disk", .address_on_parent = at, .host = host, .id = FIRST_ID + n + i,
					     .parent = FIRST_ID + i / PER_CONTROLLER, .type = 17 });
	}
}

static void make_hardware(FILE *f, const struct blk_ova_make *m)
{
	fputs("    <VirtualHardwareSection>\n      <Info>Hardware</Info>\n      <System>\n"
	      "        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n"
	      "        <vssd:InstanceID>0</vssd:InstanceID>\n        <vssd:VirtualSystemIdentifier>", f);
	make_text(f, m->name);
	/* VMware's products refuse a machine of no family of theirs; the others do not look. */
	fputs("</vssd:VirtualSystemIdentifier>\n        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>\n"
	      "      </System>\n", f);
	make_item(f, &(struct item){ .name = "processors", .id = 1, .type = 3, .quantity = m->cpus ? m->cpus : 1 });
	make_item(f, &(struct item){ .name = "memory", .id = 2, .type = 4, .units = "byte * 2^20",
				     .quantity = m->memory >> 20 ? m->memory >> 20 : 1 });
	make_disks(f, m);
	fputs("    </VirtualHardwareSection>\n", f);
}

char *ovf_make(const struct blk_ova_make *m, const uint64_t *sizes)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	      "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\""
	      " xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData\""
	      " xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData\">\n", f);
	make_files(f, m, sizes);
	fputs("  <VirtualSystem ovf:id=\"", f);
	make_text(f, m->name);
	fputs("\">\n    <Info>A virtual machine</Info>\n    <Name>", f);
	make_text(f, m->name);
	fputs("</Name>\n", f);
	make_hardware(f, m);
	fputs("  </VirtualSystem>\n</Envelope>\n", f);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}
