"""Value types of the standard library, by their text or a few fields."""

from __future__ import annotations

import array
import datetime
import decimal
import fractions
import ipaddress
import math
import random
import re
import time
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from understudy._forms import Fields, Form, NotTold, part

NoneType = type(None)

# Their greatest common divisor takes time by the square.
_MOST_BITS = 1 << 16
_MOST_PATTERN = 10_000

_TZINFOS = (NoneType, datetime.timezone, zoneinfo.ZoneInfo)
_WORDS = 624  # of a Mersenne Twister


def _by_text(name: str, make: Callable[[str], Any], take: Callable[[Any], str] = str) -> Form:
    return Form(
        name,
        lambda value: {"text": take(value)},
        lambda fields: make(part(fields, "text", str)),
        is_value=True,
    )


def _take_datetime(value: Any) -> Fields:
    # Another tzinfo is met as a field, and refused with its path.
    return {
        "text": value.replace(tzinfo=None, fold=0).isoformat(),
        "fold": value.fold,
        "tzinfo": value.tzinfo,
    }


def _make_datetime(cls: Any) -> Callable[[Fields], Any]:
    def make(fields: Fields) -> Any:
        naive = cls.fromisoformat(part(fields, "text", str))
        if naive.tzinfo is not None:
            raise ValueError("its text has an offset")
        return naive.replace(
            tzinfo=part(fields, "tzinfo", *_TZINFOS), fold=part(fields, "fold", int)
        )

    return make


def _make_timedelta(fields: Fields) -> datetime.timedelta:
    names = ("days", "seconds", "microseconds")
    return datetime.timedelta(*(part(fields, name, int) for name in names))


def _take_timezone(value: Any) -> Fields:
    offset, *name = value.__getinitargs__()
    return {"offset": offset, "name": name[0] if name else None}


def _make_timezone(fields: Fields) -> datetime.timezone:
    offset = part(fields, "offset", datetime.timedelta)
    name = part(fields, "name", str, NoneType)
    if name is None:
        return datetime.timezone.utc if not offset else datetime.timezone(offset)
    return datetime.timezone(offset, name)


def _take_zone(value: Any) -> Fields:
    if value.key is None:
        raise NotTold
    return {"key": value.key}


def _make_zone(fields: Fields) -> zoneinfo.ZoneInfo:
    key = part(fields, "key", str)
    try:
        return zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise RuntimeError(f"this machine knows no time zone '{key}'") from error


def _take_fraction(value: Any) -> Fields:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
        raise NotTold
    return {"numerator": value.numerator, "denominator": value.denominator}


def _make_fraction(fields: Fields) -> fractions.Fraction:
    numbers = [part(fields, name, int) for name in ("numerator", "denominator")]
    if max(number.bit_length() for number in numbers) > _MOST_BITS:
        raise ValueError(f"it has more than {_MOST_BITS} bits")
    if numbers[1] < 1 or math.gcd(*numbers) != 1:
        raise ValueError("it is not in lowest terms")
    return fractions.Fraction(*numbers)


def _take_pattern(value: Any) -> Fields:
    if len(value.pattern) > _MOST_PATTERN:
        raise NotTold
    return {"pattern": value.pattern, "flags": value.flags & ~int(re.DEBUG)}


def _make_pattern(fields: Fields) -> re.Pattern[Any]:
    pattern = part(fields, "pattern", str, bytes)
    if len(pattern) > _MOST_PATTERN:
        raise ValueError(f"it is longer than {_MOST_PATTERN}")
    return re.compile(pattern, part(fields, "flags", int) & ~int(re.DEBUG))


def _take_time(value: Any) -> Fields:
    return {"items": tuple(value), "zone": value.tm_zone, "offset": value.tm_gmtoff}


def _make_time(fields: Fields) -> time.struct_time:
    items = part(fields, "items", tuple)
    if len(items) != 9 or any(type(item) is not int for item in items):
        raise ValueError("its items are not nine integers")
    zone, offset = part(fields, "zone", str, NoneType), part(fields, "offset", int, NoneType)
    return time.struct_time((*items, zone, offset))


def _take_array(value: Any) -> Fields:
    if value.typecode in "uw":
        return {"typecode": value.typecode, "text": value.tounicode()}
    # A copy: an array that lends its memory cannot grow.
    data = memoryview(value.tobytes()).cast(value.typecode)
    return {"typecode": value.typecode, "data": data}


def _make_array(fields: Fields) -> array.array[Any]:
    typecode = part(fields, "typecode", str)
    if typecode in ("u", "w"):
        return array.array(typecode, part(fields, "text", str))
    made: array.array[Any] = array.array(typecode)
    made.frombytes(part(fields, "data", bytes))
    return made


def _assign_array(mine: Any, new: Any) -> None:
    mine[:] = new


def _misfit_array(mine: Any, new: Any) -> str | None:
    if len(mine) == len(new):
        return None
    try:
        mine.append(0 if mine.typecode not in ("u", "w") else " ")
        mine.pop()
    except BufferError:
        return "it lends its memory and cannot take another length"
    return None


def _take_random(value: Any) -> Fields:
    version, words, gauss_next = value.getstate()
    data = memoryview(array.array("I", words))
    return {"version": version, "words": data, "gauss_next": gauss_next}


def _make_random(fields: Fields) -> random.Random:
    words: array.array[int] = array.array("I")
    words.frombytes(part(fields, "words", bytes))
    if len(words) != _WORDS + 1 or words[-1] > _WORDS:
        raise ValueError("it is no state of a Mersenne Twister")
    gauss_next = part(fields, "gauss_next", float, NoneType)
    made = random.Random(0)
    made.setstate((part(fields, "version", int), tuple(words), gauss_next))
    return made


def _assign_random(mine: Any, new: Any) -> None:
    mine.setstate(new.getstate())


_IP_TYPES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)

FORMS: dict[type, Form] = {
    datetime.datetime: Form(
        "datetime.datetime", _take_datetime, _make_datetime(datetime.datetime), is_value=True
    ),
    datetime.time: Form(
        "datetime.time", _take_datetime, _make_datetime(datetime.time), is_value=True
    ),
    datetime.date: _by_text("datetime.date", datetime.date.fromisoformat, datetime.date.isoformat),
    datetime.timedelta: Form(
        "datetime.timedelta",
        lambda v: {"days": v.days, "seconds": v.seconds, "microseconds": v.microseconds},
        _make_timedelta,
        is_value=True,
    ),
    datetime.timezone: Form("datetime.timezone", _take_timezone, _make_timezone, is_value=True),
    zoneinfo.ZoneInfo: Form("zoneinfo.ZoneInfo", _take_zone, _make_zone, is_value=True),
    decimal.Decimal: _by_text("decimal.Decimal", decimal.Decimal),
    fractions.Fraction: Form("fractions.Fraction", _take_fraction, _make_fraction, is_value=True),
    uuid.UUID: _by_text("uuid.UUID", uuid.UUID),
    **{kind: _by_text(f"ipaddress.{kind.__name__}", kind) for kind in _IP_TYPES},
    re.Pattern: Form("re.Pattern", _take_pattern, _make_pattern, is_value=True),
    time.struct_time: Form("time.struct_time", _take_time, _make_time, is_value=True),
    array.array: Form("array.array", _take_array, _make_array, _assign_array, misfit=_misfit_array),
    random.Random: Form("random.Random", _take_random, _make_random, _assign_random),
}

BY_NAME = {form.name: form for form in FORMS.values()}
