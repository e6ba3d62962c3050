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

static void make_item(FILE *f, unsigned id, unsigned type, const char *name, const char *more)
{
	fprintf(f, "      <Item>\n%s        <rasd:ElementName>%s</rasd:ElementName>\n"
		"        <rasd:InstanceID>%u</rasd:InstanceID>\n", more, name, id);
	fprintf(f, "        <rasd:ResourceType>%u</rasd:ResourceType>\n", type);
}

static void make_hardware(FILE *f, const struct blk_ova_make *m)
{
	fputs("    <VirtualHardwareSection>\n      <Info>Hardware</Info>\n", f);
	make_item(f, 1, 3, "processors", "");
	fprintf(f, "        <rasd:VirtualQuantity>%u</rasd:VirtualQuantity>\n      </Item>\n", m->cpus ? m->cpus : 1);
	make_item(f, 2, 4, "memory", "        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>\n");
	fprintf(f, "        <rasd:VirtualQuantity>%" PRIu64 "</rasd:VirtualQuantity>\n      </Item>\n",
		m->memory >> 20);
	make_item(f, 3, 20, "disk controller", "        <rasd:Address>0</rasd:Address>\n");
	fputs("        <rasd:ResourceSubType>AHCI</rasd:ResourceSubType>\n      </Item>\n", f);
	for (unsigned i = 0; i < m->n_disks; i++) {
		char at[80];

		snprintf(at, sizeof(at), "        <rasd:AddressOnParent>%u</rasd:AddressOnParent>\n", i);
		make_item(f, 4 + i, 17, "disk", at);
		fprintf(f, "        <rasd:HostResource>ovf:/disk/disk%u</rasd:HostResource>\n"
			"        <rasd:Parent>3</rasd:Parent>\n      </Item>\n", i + 1);
	}
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
	      " xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData\">\n", f);
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
