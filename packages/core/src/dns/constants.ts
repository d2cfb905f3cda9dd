// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Numbers of the DNS protocol that Tandem names. Sources: IANA "DNS Parameters", RFC 8914. */

export const typeA = 1;
export const typeCname = 5;
export const typeSig = 24;
export const typeAaaa = 28;
export const typeDname = 39;
export const typeOpt = 41;
export const typeTsig = 250;
export const typeIxfr = 251;
export const typeAxfr = 252;
export const typeAny = 255;

export const classIn = 1;

export const rcodeNoError = 0;
export const rcodeFormErr = 1;
export const rcodeServFail = 2;
export const rcodeNxDomain = 3;
export const rcodeNotImp = 4;
export const rcodeRefused = 5;
/** An extended RCODE: its upper 8 bits are in the OPT record. */
export const rcodeBadVers = 16;

/** Header flags, as bits of the 16-bit word after the id. */
export const flagQr = 0x8000;
export const flagTc = 0x0200;
export const flagRd = 0x0100;
export const flagRa = 0x0080;
export const flagCd = 0x0010;
export const opcodeMask = 0x7800;
export const rcodeMask = 0x000f;

/** Extended DNS Errors (RFC 8914 section 4). 0 is a code too, so "none" is -1. */
export const edeNone = -1;
export const edeOther = 0;
export const edeNotReady = 14;
export const edeBlocked = 15;
export const edeProhibited = 18;
export const edeNoReachableAuthority = 22;
export const edeNetworkError = 23;
