// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { message, opt, pointer, query, question, record } from '../../test/dns-message.ts';
import { matcherLimits } from '../limits.ts';
import { edeProhibited, rcodeRefused } from './constants.ts';
import { setId, setKeepalive, truncateReply, writeReply, writtenReplyBytesMax } from './edit.ts';
import { compileMatcher } from './matcher-compile.ts';
import { type Pattern, parseMatchPattern } from './pattern.ts';
import { parseQuery, QueryView } from './query.ts';
import { parseReply, ReplyView } from './reply.ts';
import { matchReply } from './reply-match.ts';

const key = { low: 1, high: 2 };

test('the path of a query allocates nothing', () => {
  const patterns = ['*.example.com', '*w*.ex*le.com', '**.com', '*'].map((text): Pattern => {
    const parsed = parseMatchPattern(text, 'toFQDNs');
    assert.ok(parsed.ok);
    return parsed.value;
  });
  const limits = { ...matcherLimits, statesFree: 0, statesPerNode: 1 };
  const { matcher, simulated } = compileMatcher(patterns, 0x5eed, limits);
  assert.ok(simulated > 0, 'the simulation is on the path too');
  const asked = query('www.Example.com', 1, [opt()]);
  const data = [1, 119, ...pointer(16)];
  const answered = message({
    flags: 0x8180,
    question: question('www.Example.com'),
    answer: [
      record({ owner: pointer(12), type: 5, data }),
      record({ owner: pointer(45), type: 1, data: [192, 0, 2, 1] }),
    ],
    additional: [opt(1232, 0, 0, [0, 11, 0, 2, 0, 9])],
  });
  const scratch = answered.slice();
  const view = new QueryView(key);
  const reply = new ReplyView(key);
  const out = new Uint8Array(writtenReplyBytesMax);
  let sum = 0;
  const run = (count: number): void => {
    for (let i = 0; i < count; i++) {
      setId(asked, 0, i & 0xffff);
      sum += parseQuery(view, asked, 0, asked.length) + matcher.match(view);
      sum += writeReply(out, 0, out.length, asked, 0, view, rcodeRefused, edeProhibited);
      sum += matchReply(answered, 0, answered.length, asked, 0, view.questionEnd);
      sum += parseReply(reply, answered, 0, answered.length, view) + reply.addressCount;
      scratch.set(answered);
      sum += setKeepalive(scratch, 0, reply, i & 0xff) ? 1 : 0;
      sum += truncateReply(scratch, 0, scratch.length, reply, view);
    }
  };
  run(50_000);
  const before = process.memoryUsage().heapUsed;
  run(200_000);
  // One small object for each turn would be more than 3 MB.
  assert.ok(process.memoryUsage().heapUsed - before < 1_000_000);
  assert.ok(sum > 0);
  assert.equal(reply.addressCount, 1);
});
