/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/*
 * The policy part of judge: egress of the source, ingress of the destination, audit mode, and the event of a drop. What comes before
 * policy is in judge.bpf.c.
 */
#ifndef TANDEM_JUDGE_POLICY_H
#define TANDEM_JUDGE_POLICY_H

#include <tandem/conntrack.h>
#include <tandem/events.h>
#include <tandem/fqdn_read.h>
#include <tandem/policy.h>
#include "judgement.h"

static __always_inline __u32 reason_of(struct answer answer, bool has_expired)
{
	if (answer.verdict == TD_VERDICT_ALLOW)
		return TD_COUNT_FORWARDED;
	if (answer.verdict == TD_VERDICT_DENY)
		return TD_COUNT_DROP_POLICY_DENY;
	if (answer.verdict == TD_VERDICT_L7_DNS)
		return TD_COUNT_DROP_NOT_REDIRECTED;
	return has_expired ? TD_COUNT_DROP_FQDN_EXPIRED : TD_COUNT_DROP_NO_MATCH;
}

/*
 * May this packet keep its address in use (fqdn_live.h)? Only a pod's own packet, and not under audit,
 * where connections may be open that policy denies.
 */
static __always_inline bool is_use(const struct judgement *j, bool host_acts)
{
	return td_config.fqdn_live_s && !host_acts && !(j->source.flags & TD_EP_AUDIT) &&
	       connection_is_answered(&j->connection);
}

/*
 * A packet that is delivered to the node under an address that is not the node's (a broadcast, a group) is judged as traffic to the
 * node. What denies that address denies it too, as a rule for a prefix says nothing of the node's class. A global function, as
 * judge_policy().
 */
__noinline int judge_delivered(const struct judgement *j, struct fqdn_search *search)
{
	struct answer answer;
	struct td_class class;

	if (!j || !search)
		return 0;
	class = class_of(&j->packet.destination);
	if (is_node(&class))
		return 0;
	answer = policy_of_class(&search->question, class.id, j->source.flags & TD_EP_WILD_EGRESS);
	if (answer.verdict == TD_VERDICT_DENY)
		search->answer = answer;
	return 0;
}

/* `host_acts`: a member sends the query with the pod's own address, after it has allowed the name. */
static __always_inline __u32 judge_egress(struct judgement *j, bool host_acts)
{
	struct fqdn_search search = {
		.question = {
			.policy_id = j->source.policy_id,
			.direction = TD_EGRESS,
			.protocol = j->packet.protocol,
			.port = j->packet.destination_port,
		},
	};

	search.answer = policy_of_class(&search.question, j->destination.class.id,
					j->source.flags & TD_EP_WILD_EGRESS);
	if (is_local_in(j) && search.answer.verdict != TD_VERDICT_DENY)
		judge_delivered(j, &search);
	/* Rule 5: learned addresses never override what the cluster knows an address to be. */
	if (search.answer.verdict == TD_VERDICT_NONE && (j->source.flags & TD_EP_FQDN) &&
	    !(j->destination.class.flags & TD_CLASS_NEVER_LEARN)) {
		search.is_new = connection_is_new(&j->connection);
		search.is_use = is_use(j, host_acts);
		if (!fqdn_ask_hint(&j->packet.destination, &search) &&
		    !fqdn_is_denied(&j->packet.destination, &search)) {
			if (fqdn_finds(&j->packet.destination, &search))
				fqdn_note_hint(&j->packet.destination, &search);
			else
				fqdn_note_denial(&j->packet.destination, &search);
		}
		if (search.used_selector)
			fqdn_note_use(&j->packet.destination, &j->connection, &search);
	}
	if (host_acts && search.answer.verdict == TD_VERDICT_L7_DNS)
		search.answer.verdict = TD_VERDICT_ALLOW;
	j->facts.endpoint_id = j->source.id;
	j->facts.peer_class = j->destination.class.id;
	j->facts.rule_id = search.answer.rule_id;
	j->facts.direction = TD_EGRESS;
	return reason_of(search.answer, search.has_expired);
}

static __always_inline __u32 judge_ingress(struct judgement *j)
{
	struct question question = {
		.policy_id = j->destination.policy_id,
		.direction = TD_INGRESS,
		.protocol = j->packet.protocol,
		.port = j->packet.destination_port,
	};
	struct answer answer = policy_of_class(&question, j->source.class.id,
					       j->destination.flags & TD_EP_WILD_INGRESS);

	j->facts.endpoint_id = j->destination.id;
	j->facts.peer_class = j->source.class.id;
	j->facts.rule_id = answer.rule_id;
	j->facts.direction = TD_INGRESS;
	return reason_of(answer, false);
}

/*
 * Makes the event of a drop, with the destination that the pod used before translation. A global function, as judge_policy(),
 * so that the verifier checks it once.
 */
__noinline int judge_report(struct judgement *j, __u32 reason, __u32 verdict)
{
	struct td_event *event;
	struct td_addr address;
	__be16 port = 0;
	__u16 asked_port;

	if (!j)
		return 0;
	j->facts.reason = reason;
	j->facts.verdict = verdict;
	event = event_begin(&j->packet, &j->facts);
	if (!event)
		return 0;
	if (j->connection.entry) {
		connection_frontend(j->connection.entry, j->packet.family, &address, &port);
		asked_port = is_icmp(&j->packet) ? event->destination_port : bpf_ntohs(port);
		if (!address_equal(&address, &event->destination) ||
		    asked_port != event->destination_port) {
			event->original_destination = address;
			event->original_destination_port = asked_port;
		}
	}
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* A drop that audit mode of the endpoint turns into an event. */
static __always_inline bool is_audited(struct judgement *j, __u32 flags, __u32 reason)
{
	if (!(flags & TD_EP_AUDIT))
		return false;
	count(TD_COUNT_AUDITED);
	judge_report(j, reason, TD_VERDICT_ALLOW);
	return true;
}

__noinline int judge_policy(struct judgement *j, bool host_acts)
{
	__u32 reason;

	if (!j)
		return TD_COUNT_DROP_PARSE;
	if (j->source.flags & TD_EP_ENFORCE_EGRESS) {
		reason = judge_egress(j, host_acts);
		if (reason != TD_COUNT_FORWARDED && !is_audited(j, j->source.flags, reason))
			return reason;
	}
	if (j->destination.flags & TD_EP_ENFORCE_INGRESS) {
		reason = judge_ingress(j);
		if (reason != TD_COUNT_FORWARDED && !is_audited(j, j->destination.flags, reason))
			return reason;
	}
	return TD_COUNT_FORWARDED;
}

#endif /* TANDEM_JUDGE_POLICY_H */
