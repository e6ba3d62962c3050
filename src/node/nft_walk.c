/* SPDX-License-Identifier: Apache-2.0 */
#include "node/nft_walk.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "node/subnet.h"

enum answer { NO, YES, UNKNOWN };
enum verdict { GOES_ON, ACCEPTED, DROPPED, RETURNED };
enum { DEPTH_MAX = 16 };        /* nftables itself refuses deeper jumps */

struct walk {
	const json_t *all;
	const struct nft_packet *p;
	struct nft_block *out;
};

static const char *text_of(const json_t *object, const char *name)
{
	const char *s = json_string_value(json_object_get(object, name));

	return s ? s : "";
}

/* --- does it match? ---------------------------------------------------- */

/* A value of the packet: a text, an address, a number. */
struct value {
	enum { NOTHING, TEXT, IFNAME, ADDRESS, NUMBER } kind;
	const char *text;
	unsigned number;
};

static struct value of_text(const char *text)
{
	return (struct value){ .kind = text ? TEXT : NOTHING, .text = text };
}

static struct value meta_value(const struct nft_packet *p, const char *key)
{
	if (!strcmp(key, "iifname") || !strcmp(key, "iif"))
		return (struct value){ .kind = IFNAME, .text = p->iif };
	if (!strcmp(key, "oifname") || !strcmp(key, "oif"))
		return (struct value){ .kind = p->oif ? IFNAME : NOTHING, .text = p->oif };
	if (!strcmp(key, "l4proto"))
		return of_text(p->proto);
	return of_text(!strcmp(key, "nfproto") ? "ipv4" : !strcmp(key, "protocol") ? "ip" : NULL);
}

static struct value payload_value(const struct nft_packet *p, const char *protocol, const char *field)
{
	bool is_ours = !strcmp(protocol, p->proto) || !strcmp(protocol, "th");

	if (!strcmp(protocol, "ip") && !strcmp(field, "saddr"))
		return (struct value){ .kind = ADDRESS, .text = p->saddr };
	if (!strcmp(protocol, "ip") && !strcmp(field, "daddr"))
		return (struct value){ .kind = ADDRESS, .text = p->daddr };
	if (!strcmp(protocol, "ip") && !strcmp(field, "protocol"))
		return of_text(p->proto);
	if (is_ours && (!strcmp(field, "dport") || !strcmp(field, "sport")))
		return (struct value){ .kind = NUMBER, .number = field[0] == 'd' ? p->dport : p->sport };
	return (struct value){ .kind = NOTHING };
}

static struct value left_value(const struct nft_packet *p, const json_t *left, bool *is_other)
{
	const json_t *meta = json_object_get(left, "meta"), *payload = json_object_get(left, "payload");
	const char *protocol = text_of(payload, "protocol");

	/* A rule about another protocol does not match, whatever it asks. */
	*is_other = (!strcmp(protocol, "tcp") || !strcmp(protocol, "udp") || !strcmp(protocol, "icmp") || !strcmp(protocol, "ip6") ||
		     !strcmp(protocol, "icmpv6")) && strcmp(protocol, p->proto) != 0;
	if (meta)
		return meta_value(p, text_of(meta, "key"));
	if (payload)
		return payload_value(p, protocol, text_of(payload, "field"));
	if (!strcmp(text_of(json_object_get(left, "ct"), "key"), "state"))
		return of_text(p->ct_state);
	return (struct value){ .kind = NOTHING };
}

static enum answer equals_text(const struct value *v, const char *text)
{
	size_t len = strlen(text);

	if (text[0] == '@')
		return UNKNOWN; /* a set with a name */
	if (v->kind == IFNAME && len && text[len - 1] == '*')
		return strncmp(v->text, text, len - 1) ? NO : YES;
	return strcmp(v->text, text) ? NO : YES;
}

static enum answer in_prefix(const struct value *v, const json_t *prefix)
{
	struct subnet s = { .family = AF_INET, .len = (unsigned)json_integer_value(json_object_get(prefix, "len")) };
	int family = AF_INET;
	uint8_t addr[16];

	if (v->kind != ADDRESS || s.len > 32 || subnet_parse_address(&s.family, s.addr, text_of(prefix, "addr"), NULL) < 0 ||
	    subnet_parse_address(&family, addr, v->text, NULL) < 0)
		return v->kind == ADDRESS ? NO : UNKNOWN;
	return subnet_has(&s, addr) ? YES : NO;
}

static enum answer in_range(const struct value *v, const json_t *range)
{
	const json_t *from = json_array_get(range, 0), *to = json_array_get(range, 1);

	if (v->kind != NUMBER || !json_is_integer(from) || !json_is_integer(to))
		return UNKNOWN;
	return v->number >= json_integer_value(from) && v->number <= json_integer_value(to) ? YES : NO;
}

static enum answer equals(const struct value *v, const json_t *right);

static enum answer equals_any(const struct value *v, const json_t *list)
{
	enum answer found = NO;
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one) {
		enum answer a = equals(v, one);

		if (a == YES)
			return YES;
		if (a == UNKNOWN)
			found = UNKNOWN;
	}
	return found;
}

static enum answer equals(const struct value *v, const json_t *right)
{
	if (v->kind == NOTHING)
		return UNKNOWN;
	if (json_is_array(right))
		return equals_any(v, right);
	if (json_object_get(right, "set"))
		return equals_any(v, json_object_get(right, "set"));
	if (json_object_get(right, "prefix"))
		return in_prefix(v, json_object_get(right, "prefix"));
	if (json_object_get(right, "range"))
		return in_range(v, json_object_get(right, "range"));
	if (json_is_string(right) && v->kind != NUMBER)
		return equals_text(v, json_string_value(right));
	if (json_is_integer(right) && v->kind == NUMBER)
		return json_integer_value(right) == v->number ? YES : NO;
	return UNKNOWN;
}

static enum answer matches(const struct nft_packet *p, const json_t *match)
{
	const char *op = text_of(match, "op");
	bool is_other = false;
	struct value v = left_value(p, json_object_get(match, "left"), &is_other);

	if (is_other)
		return NO;
	/* What is for the host goes out nowhere. */
	if (!p->oif && !strncmp(text_of(json_object_get(json_object_get(match, "left"), "meta"), "key"), "oif", 3))
		return NO;
	enum answer a = equals(&v, json_object_get(match, "right"));
	if (a == UNKNOWN || !strcmp(op, "==") || !strcmp(op, "in"))
		return a;
	return strcmp(op, "!=") ? UNKNOWN : a == YES ? NO : YES;
}

/* --- rules and chains ---------------------------------------------------- */

static enum verdict walk_chain(struct walk *w, const char *family, const char *table, const char *chain, unsigned depth);

static bool is_dropping(const json_t *statement)
{
	return json_object_get(statement, "drop") || json_object_get(statement, "reject");
}

static enum verdict follow(struct walk *w, const json_t *rule, const json_t *statement, unsigned depth)
{
	const json_t *jump = json_object_get(statement, "jump"), *away = json_object_get(statement, "goto");
	const char *family = text_of(rule, "family"), *table = text_of(rule, "table");

	if (is_dropping(statement)) {
		w->out->family = family;
		w->out->table = table;
		w->out->chain = text_of(rule, "chain");
		w->out->handle = json_integer_value(json_object_get(rule, "handle"));
		return DROPPED;
	}
	if (json_object_get(statement, "accept"))
		return ACCEPTED;
	if (json_object_get(statement, "return"))
		return RETURNED;
	if (!jump && !away)
		return GOES_ON;
	enum verdict v = walk_chain(w, family, table, text_of(jump ? jump : away, "target"), depth + 1);
	/* Who went there does not come back here. */
	return v == RETURNED || v == GOES_ON ? (away ? RETURNED : GOES_ON) : v;
}

/* Statements that neither ask nor decide. */
static bool is_idle(const json_t *statement)
{
	return json_object_get(statement, "counter") || json_object_get(statement, "log") || json_object_get(statement, "mangle") ||
	       json_object_get(statement, "notrack");
}

static bool is_deciding(const json_t *s)
{
	return is_dropping(s) || json_object_get(s, "accept") || json_object_get(s, "return") || json_object_get(s, "jump") ||
	       json_object_get(s, "goto");
}

static enum verdict walk_rule(struct walk *w, const json_t *rule, unsigned depth)
{
	const json_t *statement;
	bool is_unknown = false;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, statement) {
		const json_t *match = json_object_get(statement, "match");
		enum answer a = match ? matches(w->p, match) : YES;

		if (a == NO)
			return GOES_ON;
		if (a == UNKNOWN || (!match && !is_idle(statement) && !is_deciding(statement)))
			is_unknown = true;
		if (is_deciding(statement) && is_unknown) {
			/* It might have been let pass here. */
			w->out->is_certain &= is_dropping(statement);
			return GOES_ON;
		}
		enum verdict v = is_deciding(statement) ? follow(w, rule, statement, depth) : GOES_ON;
		if (v != GOES_ON)
			return v;
	}
	return GOES_ON;
}

static enum verdict walk_chain(struct walk *w, const char *family, const char *table, const char *chain, unsigned depth)
{
	const json_t *item;
	size_t i;

	json_array_foreach(depth < DEPTH_MAX ? w->all : NULL, i, item) {
		const json_t *rule = json_object_get(item, "rule");

		if (!rule || strcmp(text_of(rule, "family"), family) || strcmp(text_of(rule, "table"), table) ||
		    strcmp(text_of(rule, "chain"), chain))
			continue;
		enum verdict v = walk_rule(w, rule, depth);
		if (v != GOES_ON)
			return v;
	}
	return GOES_ON;
}

/* A chain at which packets begin. */
static bool walk_base(struct walk *w, const json_t *chain)
{
	const char *family = text_of(chain, "family"), *table = text_of(chain, "table"), *name = text_of(chain, "name");

	*w->out = (struct nft_block){ .is_certain = true };
	enum verdict v = walk_chain(w, family, table, name, 0);
	if (v == ACCEPTED || (v != DROPPED && strcmp(text_of(chain, "policy"), "drop") != 0))
		return false;
	if (v != DROPPED) {
		w->out->family = family;
		w->out->table = table;
		w->out->chain = name;
	}
	return true;
}

bool nft_walk(const json_t *ruleset, const char *own, const struct nft_packet *p, struct nft_block *out)
{
	struct nft_block found = { .is_certain = true };
	struct walk w = { .all = json_object_get(ruleset, "nftables"), .p = p, .out = &found };
	const json_t *item;
	size_t i;

	json_array_foreach(w.all, i, item) {
		const json_t *chain = json_object_get(item, "chain");
		const char *family = text_of(chain, "family");

		if (!chain || strcmp(text_of(chain, "type"), "filter") || strcmp(text_of(chain, "hook"), p->hook) ||
		    (strcmp(family, "ip") && strcmp(family, "inet")) || !strncmp(text_of(chain, "table"), own, strlen(own)))
			continue;
		if (!walk_base(&w, chain))
			continue;
		*out = found;
		return true;
	}
	return false;
}
