// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * SHA-256 (FIPS 180-4) of texts, for content-addressed ids: a tenant who may write a policy must not be
 * able to make its content collide with another tenant's. `core` has its own because it imports no platform.
 * Not for secrets: its time depends on the text.
 */

const blockBytes = 64;
const roundConstants = new Uint32Array(64);
const initialState = new Uint32Array(8);
const schedule = new Int32Array(64);
const encoder = new TextEncoder();

deriveConstants();

/** The first 128 bits of the SHA-256 of the text's UTF-8, as 32 hexadecimal digits. */
export function digest128(text: string): string {
  return hex(sha256(encoder.encode(text)), 4);
}

/** The SHA-256 of bytes as eight 32-bit words, most significant first. */
export function sha256(bytes: Uint8Array): Uint32Array {
  const state = Uint32Array.from(initialState);
  const whole = bytes.length - (bytes.length % blockBytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset < whole; offset += blockBytes) compress(state, view, offset);

  const rest = bytes.length - whole;
  const tail = new Uint8Array(rest + 9 <= blockBytes ? blockBytes : 2 * blockBytes);
  tail.set(bytes.subarray(whole));
  tail[rest] = 0x80;
  const tailView = new DataView(tail.buffer);
  tailView.setUint32(tail.length - 8, Math.floor(bytes.length / 0x20000000));
  tailView.setUint32(tail.length - 4, bytes.length << 3);
  for (let offset = 0; offset < tail.length; offset += blockBytes) {
    compress(state, tailView, offset);
  }
  return state;
}

function compress(state: Uint32Array, view: DataView, offset: number): void {
  const w = schedule;
  for (let t = 0; t < 16; t++) w[t] = view.getInt32(offset + 4 * t);
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15]!;
    const y = w[t - 2]!;
    const sigma0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
    const sigma1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
    w[t] = (w[t - 16]! + sigma0 + w[t - 7]! + sigma1) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  for (let t = 0; t < 64; t++) {
    const sum1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const choice = (e & f) ^ (~e & g);
    const first = (h + sum1 + choice + roundConstants[t]! + w[t]!) | 0;
    const sum0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + sum0 + majority) | 0;
  }
  const added = [a, b, c, d, e, f, g, h];
  for (let index = 0; index < 8; index++) {
    state[index] = state[index]! + added[index]!;
  }
}

function rotate(word: number, count: number): number {
  return (word >>> count) | (word << (32 - count));
}

function hex(words: Uint32Array, count: number): string {
  let text = '';
  for (let index = 0; index < count; index++) {
    text += words[index]!.toString(16).padStart(8, '0');
  }
  return text;
}

/** FIPS 180-4, 4.2.2 and 5.3.3: fractional bits of the roots of the first primes, exact by integers. */
function deriveConstants(): void {
  let found = 0;
  for (let candidate = 2; found < 64; candidate++) {
    if (!isPrime(candidate)) continue;
    const scaled = BigInt(candidate);
    roundConstants[found] = Number(integerRoot(scaled << 96n, 3n) & 0xffffffffn);
    if (found < 8) initialState[found] = Number(integerRoot(scaled << 64n, 2n) & 0xffffffffn);
    found++;
  }
}

function isPrime(value: number): boolean {
  for (let divisor = 2; divisor * divisor <= value; divisor++) {
    if (value % divisor === 0) return false;
  }
  return true;
}

/** The largest integer whose `degree`-th power is at most `value`, which is below 2^120. */
function integerRoot(value: bigint, degree: bigint): bigint {
  let low = 0n;
  let high = 1n << 60n;
  while (low < high) {
    const middle = (low + high + 1n) >> 1n;
    if (middle ** degree <= value) low = middle;
    else high = middle - 1n;
  }
  return low;
}
