// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Numbers of the kernel's interface, by the header that defines them. Attributes are in the file of their object. */

/** linux/netlink.h: types below 16 belong to every protocol. */
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLMSG_OVERRUN = 4;
export const NLM_F_REQUEST = 0x1;
export const NLM_F_MULTI = 0x2;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
/** Flag of requests that read a whole table. */
export const NLM_F_DUMP = 0x300;
/** Flags of requests that create or replace. */
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
/** Flag of acknowledgements. */
export const NLM_F_CAPPED = 0x100;
export const NLM_F_ACK_TLVS = 0x200;
/** Bits of an attribute's type that say how it is encoded. */
export const NLA_F_NESTED = 0x8000;
export const NLA_TYPE_MASK = 0x3fff;

/** linux/rtnetlink.h */
export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;
export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
export const RTM_GETRULE = 34;
export const RTM_GETQDISC = 38;
export const RTM_NEWNSID = 88;
export const RTM_DELNSID = 89;
export const RTM_GETNSID = 90;

/** linux/rtnetlink.h, enum rtnetlink_groups */
export const RTNLGRP_LINK = 1;
export const RTNLGRP_NEIGH = 3;
export const RTNLGRP_IPV4_IFADDR = 5;
export const RTNLGRP_IPV4_ROUTE = 7;
export const RTNLGRP_IPV4_RULE = 8;
export const RTNLGRP_IPV6_IFADDR = 9;
export const RTNLGRP_IPV6_ROUTE = 11;
export const RTNLGRP_IPV6_RULE = 19;
export const RTNLGRP_NSID = 28;

/** linux/rtnetlink.h: tables, kinds and scopes of routes, and who made them. */
export const RT_TABLE_MAIN = 254;
export const RT_TABLE_LOCAL = 255;
export const RTN_UNICAST = 1;
export const RTN_LOCAL = 2;
export const RT_SCOPE_UNIVERSE = 0;
export const RT_SCOPE_LINK = 253;
export const RT_SCOPE_HOST = 254;
/** In a deletion: whatever scope the route has. */
export const RT_SCOPE_NOWHERE = 255;
/** By a redirect of ICMP. */
export const RTPROT_REDIRECT = 1;
/** By the kernel: of an interface's own address, and of a prefix that a router advertisement calls on-link. */
export const RTPROT_KERNEL = 2;
/** Without a name of its maker: iproute2, CNI plugins. */
export const RTPROT_BOOT = 3;
/** A router that a router advertisement names. */
export const RTPROT_RA = 9;
/** By a DHCP client. */
export const RTPROT_DHCP = 16;
/** Rules and neighbours that this product made. One of the numbers that are not registered (iproute2's rt_protos). */
export const RTPROT_TANDEM = 84;
/** linux/if_addr.h, of an address's flags: another host has it. */
export const IFA_F_DADFAILED = 8;
/** linux/if_addr.h: the kernel made the address of a prefix that a router advertisement gave. */
export const IFAPROT_KERNEL_RA = 2;
/** linux/rtnetlink.h, of IFLA_EXT_MASK: without counters a dump of links has a third of the size. */
export const RTEXT_FILTER_SKIP_STATS = 8;

/** linux/fib_rules.h: look the table up. */
export const FR_ACT_TO_TBL = 1;

/** linux/neighbour.h: flags and states of a neighbour or forwarding entry. */
export const NTF_USE = 0x01;
export const NTF_MASTER = 0x04;
export const NTF_STICKY = 0x40;
export const NUD_NOARP = 0x40;
export const NUD_PERMANENT = 0x80;

/** linux/socket.h (bits/socket.h of the C library). */
export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;

/** linux/in.h */
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;

/** linux/if.h */
export const IFF_UP = 0x1;

/** net/net_namespace.h: of `lo` in every network namespace. */
export const LOOPBACK_IFINDEX = 1;

/** asm-generic/errno-base.h, the same on every architecture that Node runs on. */
export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EEXIST = 17;
export const ENODEV = 19;
/** asm-generic/errno.h */
export const ENOBUFS = 105;
export const ENETUNREACH = 101;
export const ETIMEDOUT = 110;
export const EHOSTUNREACH = 113;
