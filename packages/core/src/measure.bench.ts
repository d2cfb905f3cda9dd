// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The harness of core's benchmarks: subjects take turns, so that a slow moment of the machine hits all
 * of them, and the least and the median time of one operation are printed. Check `uptime` first.
 */

export interface Subject {
  readonly name: string;
  /** Does `count` operations. What it returns is used, so that nothing is optimised away. */
  readonly run: (count: number) => number;
  /** Operations of one round; default 200,000. */
  readonly count?: number;
}

const rounds = 9;

/** Runs the subjects in turns and prints nanoseconds of one operation. */
export function measure(title: string, subjects: readonly Subject[]): void {
  const times = subjects.map((): number[] => []);
  let sink = 0;
  for (let round = -1; round < rounds; round++) {
    for (const [index, subject] of subjects.entries()) {
      const count = subject.count ?? 200_000;
      const before = performance.now();
      sink += subject.run(count);
      const elapsed = ((performance.now() - before) * 1e6) / count;
      // The first round warms up.
      if (round >= 0) times[index]!.push(elapsed);
    }
  }
  console.log(`${title} (ns: least, median of ${rounds} rounds; sink ${sink % 2})`);
  for (const [index, subject] of subjects.entries()) {
    const sorted = times[index]!.sort((a, b) => a - b);
    const least = sorted[0]!.toFixed(1).padStart(9);
    const median = sorted[rounds >>> 1]!.toFixed(1).padStart(9);
    console.log(`${least} ${median}  ${subject.name}`);
  }
}
