// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Takes a stream of octets apart at line breaks. A rest without one is no line: the stream was cut. */

export class LineTooLong extends Error {
  constructor(bytesMax: number) {
    super(`a line of the API server is longer than ${bytesMax} octets`);
  }
}

/** @throws LineTooLong; whatever `source` throws */
export async function* linesOf(
  source: AsyncIterable<Buffer>,
  bytesMax: number,
): AsyncGenerator<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of source) {
    let from = 0;
    for (;;) {
      const at = chunk.indexOf(10, from);
      const part = chunk.subarray(from, at < 0 ? chunk.length : at);
      length += part.length;
      if (length > bytesMax) throw new LineTooLong(bytesMax);
      parts.push(part);
      if (at < 0) break;
      yield parts.length === 1 ? part.toString('utf8') : Buffer.concat(parts).toString('utf8');
      parts.length = 0;
      length = 0;
      from = at + 1;
    }
  }
}
