"""What DuckDB on Parquet and SQLite take for the queries of `benches/segments.rs`.

Arguments: a directory with rows.tsv, the number of rounds. Prints a line for each query: its name, a tab, the best of
the rounds in milliseconds, a tab, the first value of the answer.
"""
import os
import sqlite3
import sys
import time

import duckdb

directory, rounds = sys.argv[1], int(sys.argv[2])
os.chdir(directory)
ids = [int(line) for line in open("ids.txt")]


def report(name, ask):
    ask()
    took = []
    for n in range(rounds):
        start = time.perf_counter()
        answer = ask(n)
        took.append(time.perf_counter() - start)
    print(f"{name}\t{min(took) * 1000}\t{answer}", flush=True)


duck = duckdb.connect()
duck.execute("SET threads = 2")
duck.execute(
    "COPY (SELECT * FROM read_csv('rows.tsv', delim='\t', header=true, quote='', nullstr='')) "
    "TO 'rows.parquet' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
)
print(f"parquet bytes\t{os.path.getsize('rows.parquet')}\t0", flush=True)


def query(sql):
    def ask(_=0):
        answer = duck.execute(sql).fetchall()
        return answer[0][0]

    return ask


rows = "FROM 'rows.parquet'"
for share, below in [("50 %", 500), ("10 %", 100), ("1 %", 10), ("0.1 %", 1)]:
    report(f"count, {share}", query(f"SELECT count(*) {rows} WHERE pct < {below}"))
report("count, 10 % and a string", query(f"SELECT count(*) {rows} WHERE pct < 100 AND s_low = 'low 3'"))
report("count, not 1 % or a string", query(f"SELECT count(*) {rows} WHERE NOT (pct < 10 OR s_low = 'low 3')"))
report("first 100 by a unique int", query(f"SELECT id {rows} ORDER BY i_wide DESC LIMIT 100"))
report("first 100 by an int, 10 %", query(f"SELECT id {rows} WHERE pct < 100 ORDER BY i_wide DESC LIMIT 100"))
report("10 groups of strings", query(f"SELECT s_low, count(*) {rows} GROUP BY s_low ORDER BY s_low"))
report("1,000 groups of strings", query(f"SELECT s_mid, count(*) {rows} GROUP BY s_mid ORDER BY s_mid"))
report("10 groups of strings, 10 %", query(f"SELECT s_low, count(*) {rows} WHERE pct < 100 GROUP BY s_low ORDER BY 1"))
report("1,000 groups, 10 % at random", query(f"SELECT s_mid, count(*) {rows} WHERE pct < 100 GROUP BY s_mid ORDER BY 1"))
report("10 x 100 groups", query(f"SELECT s_low, i_hundred, count(*) {rows} GROUP BY ALL ORDER BY 1, 2"))
sums = "count(*), sum(f_price), max(i_many)"
report("1,000 groups, float sums", query(f"SELECT s_mid, {sums} {rows} GROUP BY ALL ORDER BY 1"))
report("10 x 100 groups, float sums", query(f"SELECT s_low, i_hundred, {sums} {rows} GROUP BY ALL ORDER BY 1, 2"))
report(
    "float sums, 10 x 100, 10 %",
    query(f"SELECT s_low, i_hundred, {sums} {rows} WHERE pct < 100 GROUP BY ALL ORDER BY 1, 2"),
)
report("sum, mean and maximum", query(f"SELECT sum(f_price), avg(i_many), max(u_wide) {rows}"))
report("sum, mean and maximum, 10 %", query(f"SELECT sum(f_price), avg(i_many), max(u_wide) {rows} WHERE pct < 100"))
report("distinct strings, 10 %", query(f"SELECT count(DISTINCT s_mid) {rows} WHERE pct < 100"))

lite = sqlite3.connect("rows.sqlite")
with open("rows.tsv") as file:
    names = file.readline().rstrip("\n").split("\t")
    columns = ", ".join(f"{n} {'INTEGER PRIMARY KEY' if n == 'id' else ''}" for n in names)
    lite.execute(f"CREATE TABLE rows ({columns})")
    marks = ", ".join("?" * len(names))
    lite.executemany(f"INSERT INTO rows VALUES ({marks})", (line.rstrip("\n").split("\t") for line in file))
lite.commit()
print(f"sqlite bytes\t{os.path.getsize('rows.sqlite')}\t0", flush=True)
for count in [10, 100, 1000]:

    def look_up(n=0, count=count):
        wanted = [ids[(n * count + i) % len(ids)] for i in range(count)]
        marks = ", ".join("?" * count)
        return len(lite.execute(f"SELECT * FROM rows WHERE id IN ({marks})", wanted).fetchall())

    report(f"{count} rows by id", look_up)
