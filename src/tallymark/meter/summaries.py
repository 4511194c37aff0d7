"""temporary"""

from __future__ import annotations

from .stripe_events import StripeMeter


def summaries(
    meter: StripeMeter, meter_id: str, customer_id: str, start_s: int, end_s: int, grouping: str
) -> dict[int, int]:
    rows = meter._client.v1.billing.meters.event_summaries.list(
        meter_id,
        {
            "customer": customer_id,
            "start_time": start_s,
            "end_time": end_s,
            "value_grouping_window": grouping,
            "limit": 100,
        },
    )
    return {row.start_time: int(row.aggregated_value) for row in rows.auto_paging_iter()}
