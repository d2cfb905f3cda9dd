/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copyright The Tandem Authors */
/* Part of abi.h: UDP queries in flight, which outlive the member that had them. */
#ifndef TANDEM_ABI_JOURNAL_H
#define TANDEM_ABI_JOURNAL_H

/* ---- journal2: cells, mmap-able ---------------------------------------------------------------- */
/*
 * UDP queries in flight, so that the other member, or the next run of the same one, can answer what a
 * dead or hung member had in hand. Each member has a region of TD_JOURNAL_REGION_CELLS cells:
 *
 *   1 cell     td_journal_header
 *   22 cells   a state word for each slot
 *   8192 cells slots
 *   241 cells  scratch: memory of the owner's batches, of no meaning to others
 *
 * A state word: bits 0..2 td_journal_state, 3..7 zero, 8..31 a generation that grows with each use. Every
 * change is a compare-and-swap of the whole word. Only the owner takes a slot out of FREE. Who takes a query
 * over copies it into a slot of its own, sees that the old word has not changed, says in the own slot that
 * it is in flight, and then swaps the old one to FREE.
 *
 * Another layout is another map: members map it by offsets, so one that knows the former layout must never
 * find the new one under its name. `journal` held messages of 768 bytes in cells of 1024.
 */
#define TD_JOURNAL_VERSION       2u
#define TD_JOURNAL_MEMBERS       2u    /* the agent and the proxy */
#define TD_JOURNAL_CELL_BYTES    1536u /* whole cache lines */
#define TD_JOURNAL_SLOTS         8192u
#define TD_JOURNAL_STATE_CELLS   22u
#define TD_JOURNAL_SCRATCH_CELLS 241u
#define TD_JOURNAL_REGION_CELLS  8456u /* whole pages: 12.4 MiB */
#define TD_JOURNAL_MESSAGE_BYTES 1232u /* UDP payload that passes everywhere (DNS flag day 2020) */

enum td_journal_state {
	TD_JOURNAL_FREE = 0,
	TD_JOURNAL_RECEIVING = 1, /* a query may lie in `message`: it does once `name` has a family */
	TD_JOURNAL_IN_FLIGHT = 2, /* forwarded, or about to be */
	TD_JOURNAL_REPLYING = 3,  /* its reply is being sent, or was */
};

struct td_journal_header {
	__u32 version; /* of this region: TD_JOURNAL_VERSION; others leave unknown ones alone */
	__u32 tcp_connections; /* that the owner had accepted and not closed at its last heartbeat */
	__u32 reserved[382];
};

struct td_journal_slot {
	/* Valid in IN_FLIGHT and REPLYING. */
	struct td_addr client;
	struct td_addr server; /* as the pod asked it */
	__u32 client_port;
	__u32 length;      /* bytes of `message` */
	__u32 client_id;   /* the query's own id; that in `message` may be the one sent upstream */
	__u32 received_ms; /* CLOCK_MONOTONIC, wraps: compare by signed difference */
	__u32 endpoint_id;   /* of the pod that asked; of this query only if `endpoint_ms` is `received_ms` */
	__u32 endpoint_ms;
	__u32 reserved[2];
	__u32 owner[16];   /* the owner's notes */
	/* Written by the kernel, as by recvmsg(2): the address last. Valid in RECEIVING. */
	__u8 name[32];     /* struct sockaddr_in or sockaddr_in6; family 0: nothing was received */
	__u8 control[96];  /* struct cmsghdr ...; zero before it is received into */
	__u8 message[TD_JOURNAL_MESSAGE_BYTES]; /* zero behind the end of a query that was just received */
	__u8 reserved1[48];
};

union td_journal_cell {
	struct td_journal_header header;
	__u32 state[384];
	struct td_journal_slot slot;
};

#endif /* TANDEM_ABI_JOURNAL_H */
