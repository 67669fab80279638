"""Runs statements through python-tds and writes their results as JSON, each value in one way."""

import datetime
import decimal
import json
import sys
import uuid

import pytds

asked = json.load(sys.stdin)


def text(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            return value.strftime("%Y-%m-%d %H:%M:%S.%f").rjust(26, "0")
        minutes = int(value.utcoffset().total_seconds() // 60)
        utc = value.astimezone(datetime.timezone.utc)
        return utc.strftime("%Y-%m-%d %H:%M:%S.%f") + f" UTC {minutes}"
    if isinstance(value, datetime.time):
        return value.strftime("%H:%M:%S.%f")
    if isinstance(value, uuid.UUID):
        return str(value).upper()
    if isinstance(value, bytes):
        return "0x" + value.hex().upper()
    return str(value)


PARAMETERS = {
    "int": int,
    "text": str,
    "decimal": decimal.Decimal,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "uuid": uuid.UUID,
    "float": float,
    "null": lambda _: None,
}


def run(cursor, statement, parameters):
    values = tuple(PARAMETERS[kind](value) for kind, value in parameters)
    try:
        cursor.execute(statement, values or None)
        results = []
        while True:
            if cursor.description:
                results.append([[text(value) for value in row] for row in cursor.fetchall()])
            if not cursor.nextset():
                return {"results": results}
    except pytds.Error as error:
        return {"error": getattr(error, "number", None)}


options = {}
if asked.get("ca_file"):
    options = {"cafile": asked["ca_file"], "validate_host": False, "enc_login_only": asked["login_only"]}
try:
    connection = pytds.connect(
        asked["host"],
        port=asked["port"],
        database=asked["database"],
        user=asked["user"],
        password=asked["password"],
        autocommit=asked.get("autocommit", True),
        appname="conformance",
        **options,
    )
except pytds.Error as error:
    json.dump({"refused": getattr(error, "number", None) or getattr(error, "msg_no", None) or str(error)}, sys.stdout)
    sys.exit(0)
answers = []
cursor = connection.cursor()
for statement, *parameters in asked["statements"]:
    if statement == "cancel":
        cursor.execute(parameters[0][1])
        cursor.fetchone()
        cursor.cancel()
        answers.append({"results": []})
    elif statement == "commit":
        connection.commit()
        answers.append({"results": []})
    else:
        answers.append(run(cursor, statement, parameters))
json.dump({"answers": answers}, sys.stdout)
