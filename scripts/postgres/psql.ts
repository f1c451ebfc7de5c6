/** Runs the real psql on some input, as its user would from a script, and gives what it printed. */
export async function runPsql(
  conninfo: string,
  password: string,
  input: string,
): Promise<{ out: string; err: string }> {
  const child = Bun.spawn(["psql", "-X", "-v", "VERBOSITY=verbose", conninfo], {
    stdin: Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
    // No home of anybody's: a ~/.pgpass or service file must not decide a test.
    env: { PATH: process.env.PATH ?? "", PGPASSWORD: password, HOME: "/nonexistent" },
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  await child.exited;
  return { out, err };
}
