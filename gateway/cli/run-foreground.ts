/** Runs another program in this terminal until it ends. */

/** Ctrl-C is the program's (psql cancels its query by it), so this process ignores it meanwhile. @returns its exit code. */
export async function runForeground(line: string[], environment: Record<string, string>): Promise<number> {
  const ignore = () => {};
  process.on("SIGINT", ignore);
  try {
    const child = Bun.spawn(line, { env: environment, stdin: "inherit", stdout: "inherit", stderr: "inherit" });
    return await child.exited;
  } finally {
    process.off("SIGINT", ignore);
  }
}
