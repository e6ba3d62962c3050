/* SPDX-License-Identifier: Apache-2.0 */
#include "node/seed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/doc.h"
#include "node/iso.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { SECTOR = 2048, META_SECTORS = 5 };       /* that meta-data has at most, of instances that may begin as templates */

static const char *text_of(const json_t *spec, const char *name)
{
	const char *s = json_string_value(json_object_get(spec, name));

	return s ? s : "";
}

/* --- what may be ---------------------------------------------------- */

static bool begins_with_any(const char *text, const char *const *heads)
{
	while (*heads && strncmp(text, *heads, strlen(*heads)) != 0)
		heads++;
	return *heads;
}

/* A line as of authorized_keys(5), that needs nothing escaped in YAML. */
static int check_key(const char *key, struct err *err)
{
	static const char *const kinds[] = { "ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-", NULL };

	if (!begins_with_any(key, kinds) || strlen(key) > SEED_KEY_MAX)
		return err_set(err, -EINVAL, "'%.40s' is no public key of SSH; one is a line like 'ssh-ed25519 AAAA... name'", key);
	for (const char *c = key; *c; c++)
		if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
			return err_set(err, -EINVAL, "the key '%.40s...' has something in it that no public key has", key);
	return 0;
}

int seed_check(const json_t *spec, char *where, size_t cap, struct err *err)
{
	/* As cloud-init tells the kinds apart. */
	static const char *const heads[] = { "#!", "#cloud-config", "#cloud-boothook", "#include", "#part-handler", "## template:",
					     "Content-Type:", "MIME-Version:", NULL };
	const char *data = text_of(spec, "user_data");
	const json_t *key;
	size_t i;

	json_array_foreach(json_object_get(spec, "ssh_keys"), i, key) {
		snprintf(where, cap, "spec.ssh_keys[%zu]", i);
		int r = check_key(json_string_value(key) ? json_string_value(key) : "", err);
		if (r < 0)
			return r;
	}
	snprintf(where, cap, "spec.user_data");
	if (*data && !begins_with_any(data, heads))
		return err_set(err, -EINVAL, "user data begins with '#cloud-config' or '#!', or as cloud-init knows otherwise");
	where[0] = 0;
	return 0;
}

bool seed_is_wanted(const json_t *spec)
{
	return json_object_get(spec, "image") || *text_of(spec, "user_data") || json_array_size(json_object_get(spec, "ssh_keys"));
}

/* --- the files ---------------------------------------------------- */

static char *make_meta(const char *name, const char *uid, const json_t *spec, size_t *len)
{
	const json_t *keys = json_object_get(spec, "ssh_keys"), *key;
	char *text = NULL;
	FILE *f = open_memstream(&text, len);
	size_t i;

	if (!f)
		return NULL;
	fprintf(f, "instance-id: i-%s\nlocal-hostname: %s\n", uid, name);
	if (json_array_size(keys))
		fprintf(f, "public-keys:\n");
	json_array_foreach(keys, i, key)
		fprintf(f, "  - \"%s\"\n", json_string_value(key));
	/* A copy of a machine that runs finds a disk as large as the original's, whatever the two are called. */
	fprintf(f, "#%*s\n", (int)(DOC_NAME_MAX - strnlen(name, DOC_NAME_MAX)), "");
	return fclose(f) ? NULL : text;
}

int seed_write(const char *path, const char *name, const char *uid, const json_t *spec, struct err *err)
{
	/* Every network that there is gives addresses by DHCP, also those that were chosen. */
	static const char network[] = "version: 2\nethernets:\n  all:\n    match:\n      name: \"e*\"\n    dhcp4: true\n"
				      "    dhcp6: true\n    optional: true\n";
	static const char nothing[] = "#cloud-config\n{}\n";
	const char *data = *text_of(spec, "user_data") ? text_of(spec, "user_data") : nothing;
	size_t len = 0;
	AUTO(free) char *meta = make_meta(name, uid, spec, &len);
	/* What begins as a template finds a disk as large as that one's, whatever keys it has. It is no part of meta-data, which guests read
	 * by the byte. */
	static const char nothing_at_all[META_SECTORS * SECTOR];
	size_t sectors = (len + SECTOR - 1) / SECTOR;
	bool is_like = !strcmp(text_of(spec, "template"), "auto") && sectors < META_SECTORS;
	struct iso_file files[4] = { { "meta-data", meta, len }, { "network-config", network, sizeof(network) - 1 } };
	unsigned n = 2;

	if (!meta)
		return err_set(err, -ENOMEM, "out of memory");
	if (is_like)
		files[n++] = (struct iso_file){ "padding", nothing_at_all, (META_SECTORS - sectors) * SECTOR };
	files[n++] = (struct iso_file){ "user-data", data, strlen(data) };
	return iso_write(path, "cidata", files, n, err);
}
