// What the programs of cases have in common: waiting with an end, comparing, and telling how each case went.

const PATIENCE_MS = 15_000;

/** The outcome of `promise`, or an error that names `what` if it takes too long. */
export function within(promise, what, patience = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen in time`)), patience);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function assertEqual(got, expected, what) {
  if (JSON.stringify(got) !== JSON.stringify(expected)) {
    throw new Error(`${what}: ${JSON.stringify(got)}, not ${JSON.stringify(expected)}`);
  }
}

export function assert(is, what) {
  if (!is) throw new Error(what);
}

/** Asks again until `ask` gives something true. */
export async function until(ask, what, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  for (;;) {
    const got = await ask();
    if (got) return got;
    if (Date.now() > end) throw new Error(`${what} did not happen in time`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Runs one case after the other: a line each, `ok<TAB>name` or `FAIL<TAB>name<TAB>why`. */
export async function runAll(cases, prefix = "", ...args) {
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run(...args);
      console.log(`ok\t${prefix}${name}`);
    } catch (error) {
      console.log(`FAIL\t${prefix}${name}\t${String(error).replaceAll(/\s+/g, " ")}`);
    }
  }
}

/** The line that says that none is missing. */
export function end() {
  console.log("end");
  process.exit(0);
}
