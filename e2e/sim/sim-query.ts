// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A query of a pod, and what became of it. */

import { names } from './universe.ts';

/** Client port of query 0. */
export const firstPort = 1024;

export const excuses = [
  'upstream silent',
  'in hand for longer than the bound',
  'nobody else lived when its socket closed',
  'the members had not linked yet',
  'the journal was full',
  'another pod has its address',
  'the client closed',
  'its connection ended with its member',
  'its connection was closed between two queries',
  'its connection was closed',
  'its connection was refused',
] as const;
export type Excuse = (typeof excuses)[number];

/** The connection that a query came by. */
export interface QueryClient {
  /** Whether it was of the query's pod at some time since then. */
  readonly isOver: boolean;
  isOfPod(sinceNs: number): boolean;
}

/** The connection to the server that a query went to. */
export interface QueryServer {
  readonly isBroken: boolean;
}

/** A socket by which a query went to its server, over UDP. */
export interface QuerySocket {
  readonly isOpen: boolean;
  readonly hasFailed: boolean;
}

export interface SimQuery {
  readonly number: number;
  readonly pod: number;
  readonly server: number;
  readonly name: number;
  readonly askedNs: number;
  forwards: number;
  readonly sockets: QuerySocket[];
  /** Names of the lives that forwarded it. */
  readonly forwarders: Set<string>;
  /** Number of its forwards that the server will never answer. */
  lostForwards: number;
  answers: number;
  excuse: Excuse | null;
  /** Over TCP; null over UDP. */
  readonly client: QueryClient | null;
  /** The client sent all of it. */
  isSent: boolean;
  /** Policies that may have let it pass. */
  policies: readonly number[];
  /** Endpoints for which it was sent to the server first, over UDP. */
  readonly endpoints: number[];
  /** Where it was sent last, over TCP, and when it was sent first. */
  tcpServer: QueryServer | null;
  startedNs: number;
  /** The life that answered it first. */
  answerer: string;
  /** How often it was copied to be done anew. */
  copies: number;
}

/** Every query has its own port, and an id that can be told from it. */
export function clientPortOf(query: SimQuery): number {
  return firstPort + query.number;
}

export function clientIdOf(query: SimQuery): number {
  return (query.number * 40_503 + 12_345) & 0xffff;
}

/** The question's name of the message at `at` is the query's. */
export function hasQuestion(memory: Uint8Array, at: number, query: SimQuery): boolean {
  return isAbout(memory, at, query.name);
}

export function isAbout(memory: Uint8Array, at: number, name: number): boolean {
  const wire = names[name]?.wire as Uint8Array;
  for (let i = 0; i < wire.length; i++) if (memory[at + 12 + i] !== wire[i]) return false;
  return true;
}
